package routing

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// EBPF rewrites the destination of pods' connections to the metadata address when
// they connect. What does so is pinned (bpffs, see bpf(2)) and stays when the
// program ends: a pod is refused then, and reaches no other metadata server. What
// comes by another way than the node's sockets is not forwarded.
//
// It needs Linux 5.11 and the capabilities BPF and NET_ADMIN. Other programs at the
// same hooks run as before.
type EBPF struct {
	Cgroup string         // the cgroup of all pods: processes of the node are left alone
	Pins   string         // a folder of its own in a bpffs
	Target netip.AddrPort // where the server listens, as pods can reach it
}

const capabilitiesBPF = "the capabilities BPF and NET_ADMIN"

func (e EBPF) String() string { return "ebpf" }

// Install redirects to the target from now on. Where another instance has
// installed, its programs are replaced and its target switched, each at one stroke.
func (e EBPF) Install() error {
	if err := e.install(); err != nil {
		return failed("ebpf", "redirect the pods below "+e.Cgroup, capabilitiesBPF, err)
	}
	return nil
}

func (e EBPF) install() error {
	if err := e.folder(); err != nil {
		return err
	}
	targets, err := e.targets()
	if err != nil {
		return err
	}
	defer func() { _ = targets.Close() }()
	if err := e.aim(targets); err != nil {
		return err
	}
	for _, p := range programs(targets) {
		if err := e.attach(p); err != nil {
			return fmt.Errorf("program %s: %w", p.Name, err)
		}
	}
	return installGuard()
}

// Probe says whether the kernel has what is needed and permits it, and leaves
// nothing.
func (e EBPF) Probe() error {
	if err := e.probe(); err != nil {
		return failed("ebpf", "load a program", capabilitiesBPF, err)
	}
	return nil
}

func (e EBPF) probe() error {
	if err := isBPFFS(filepath.Dir(e.Pins)); err != nil {
		return err
	}
	targets, err := ebpf.NewMap(targetsSpec())
	if err != nil {
		return err
	}
	defer func() { _ = targets.Close() }()
	for _, p := range programs(targets) {
		loaded, err := ebpf.NewProgram(&p)
		if err != nil {
			return fmt.Errorf("program %s: %w", p.Name, err)
		}
		_ = loaded.Close()
	}
	return nil
}

// folder makes the folder of pins, in a bpffs: in any other they would not be kept.
func (e EBPF) folder() error {
	if err := isBPFFS(filepath.Dir(e.Pins)); err != nil {
		return err
	}
	if err := os.Mkdir(e.Pins, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

func isBPFFS(path string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if fs.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("%s is not a bpffs: mount one there, or the node's into the pod", path)
	}
	return nil
}

func targetsSpec() *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: "gkemd_targets", Type: ebpf.Hash, KeySize: 4, ValueSize: 20, MaxEntries: 2}
}

// The names of the programs, and of the pins of their links.
const (
	redirect4Name = "gkemd_redirect4"
	redirect6Name = "gkemd_redirect6"
)

func programs(targets *ebpf.Map) []ebpf.ProgramSpec {
	return []ebpf.ProgramSpec{
		{Name: redirect4Name, Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, Instructions: redirect4(targets), License: "Apache-2.0"},
		{Name: redirect6Name, Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet6Connect, Instructions: redirect6(targets), License: "Apache-2.0"},
	}
}

// targets opens the map that an instance before has pinned, or makes and pins one.
// A hash, because its elements are replaced as a whole.
func (e EBPF) targets() (*ebpf.Map, error) {
	spec := targetsSpec()
	spec.Pinning = ebpf.PinByName
	targets, err := ebpf.NewMapWithOptions(spec, ebpf.MapOptions{PinPath: e.Pins})
	if err != nil {
		return nil, fmt.Errorf("map of targets: %w", err)
	}
	return targets, nil
}

// aim switches the target.
func (e EBPF) aim(targets *ebpf.Map) error {
	ip := e.Target.Addr().Unmap()
	to := target{Address: ip.As16(), Port: [2]byte{byte(e.Target.Port() >> 8), byte(e.Target.Port())}}
	if err := targets.Put(forIPv6, &to); err != nil {
		return fmt.Errorf("target %s: %w", e.Target, err)
	}
	if ip.Is4() {
		return targets.Put(forIPv4, &to)
	}
	// A socket of IPv4 alone cannot reach the target, and is refused.
	if err := targets.Delete(forIPv4); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("target %s: %w", e.Target, err)
	}
	return nil
}

// attach puts a program in the place of the one that is pinned there; or it
// attaches and pins it, before a link to a cgroup that is no more is let go.
func (e EBPF) attach(p ebpf.ProgramSpec) error {
	pin := filepath.Join(e.Pins, p.Name)
	program, err := ebpf.NewProgram(&p)
	if err != nil {
		return err
	}
	defer func() { _ = program.Close() }()

	before, err := link.LoadPinnedLink(pin, nil)
	if err == nil {
		defer func() { _ = before.Close() }()
		if e.isOf(before) {
			return before.Update(program)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	now, err := link.AttachCgroup(link.CgroupOptions{Path: e.Cgroup, Attach: p.AttachType, Program: program})
	if err != nil {
		return err
	}
	defer func() { _ = now.Close() }() // the pin keeps it
	if err := os.Remove(pin); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return now.Pin(pin)
}

// isOf says whether a link is attached to our cgroup. The number of a cgroup is
// that of its folder's inode.
func (e EBPF) isOf(l link.Link) bool {
	var folder unix.Stat_t
	if err := unix.Stat(e.Cgroup, &folder); err != nil {
		return false
	}
	info, err := l.Info()
	return err == nil && info.Cgroup() != nil && info.Cgroup().CgroupId == folder.Ino
}

// Remove lets go of all that is pinned, and with it of all that was installed.
func (e EBPF) Remove() error {
	if err := removeGuard(); err != nil {
		return failed("ebpf", "remove the rules of routing", capabilityNetAdmin, err)
	}
	// A link that loses its pin is detached some time later; here it is at once, where
	// the process may.
	for _, name := range []string{redirect4Name, redirect6Name} {
		if pinned, err := link.LoadPinnedLink(filepath.Join(e.Pins, name), nil); err == nil {
			_ = pinned.Detach()
			_ = pinned.Close()
		}
	}
	if err := os.RemoveAll(e.Pins); err != nil {
		return failed("ebpf", "remove the pins in "+e.Pins, "to be root", err)
	}
	return nil
}
