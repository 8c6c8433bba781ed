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

	"gke-metadata-emulator/internal/bpf"
)

// EBPF rewrites the destination of pods' connections to the metadata address in
// connect(2). The programs and their map are pinned (bpffs, see bpf(2)) and stay when
// this process ends. From then on a pod's connection is refused, and reaches no other
// metadata server. Packets that do not come from a socket of the node are not forwarded.
//
// EBPF needs Linux 5.11 and the capabilities BPF and NET_ADMIN. Other programs at the
// same hooks run as before.
type EBPF struct {
	Cgroup string         // the cgroup of all pods; other processes of the node are not redirected
	Pins   string         // a folder of its own in a bpffs
	Target netip.AddrPort // the server's address and port, as pods can reach it
}

func (e EBPF) String() string { return ModeEBPF }

// Install redirects connections to the target from now on. If another instance has
// installed its programs, each of them and the target are replaced atomically.
func (e EBPF) Install() error {
	if err := e.install(); err != nil {
		return modeError(ModeEBPF, "redirect the pods below "+e.Cgroup, capabilitiesBPF, err)
	}
	return nil
}

func (e EBPF) install() error {
	if err := e.makeFolder(); err != nil {
		return err
	}
	spec, err := bpf.LoadRedirect()
	if err != nil {
		return err
	}
	// The map of an earlier instance is opened if it is pinned.
	spec.Maps[bpf.RedirectMapGkemdTargets].Pinning = ebpf.PinByName
	var objects bpf.RedirectObjects
	if err := spec.LoadAndAssign(&objects, &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: e.Pins}}); err != nil {
		return err
	}
	defer func() { _ = objects.Close() }() // the pins keep them
	if err := e.setTarget(objects.GkemdTargets); err != nil {
		return fmt.Errorf("target %s: %w", e.Target, err)
	}
	if err := e.attach(bpf.RedirectProgGkemdRedirect4, ebpf.AttachCGroupInet4Connect, objects.GkemdRedirect4); err != nil {
		return err
	}
	if err := e.attach(bpf.RedirectProgGkemdRedirect6, ebpf.AttachCGroupInet6Connect, objects.GkemdRedirect6); err != nil {
		return err
	}
	return installGuard()
}

// Probe returns an error if the kernel lacks or does not permit what Install needs. It
// changes nothing.
func (e EBPF) Probe() error {
	if err := e.probe(); err != nil {
		return modeError(ModeEBPF, "load a program", capabilitiesBPF, err)
	}
	return nil
}

func (e EBPF) probe() error {
	if err := isBPFFS(filepath.Dir(e.Pins)); err != nil {
		return err
	}
	var objects bpf.RedirectObjects
	if err := bpf.LoadRedirectObjects(&objects, nil); err != nil {
		return err
	}
	return objects.Close()
}

// makeFolder makes the folder of pins, which must be in a bpffs.
func (e EBPF) makeFolder() error {
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

func (e EBPF) setTarget(targets *ebpf.Map) error {
	ip, port := e.Target.Addr().Unmap(), e.Target.Port()
	target := bpf.RedirectTarget{Address: ip.As16(), Port: [2]byte{byte(port >> 8), byte(port)}}
	if err := targets.Put(bpf.RedirectFamilyIPV6, &target); err != nil {
		return err
	}
	if ip.Is4() {
		return targets.Put(bpf.RedirectFamilyIPV4, &target)
	}
	// A socket of IPv4 alone cannot reach the target, so its connection is refused.
	if err := targets.Delete(bpf.RedirectFamilyIPV4); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

// attach replaces the program of the link that is pinned by the program's name. If there
// is none, or it is attached to another cgroup, attach makes and pins a new link before
// it drops the old one.
func (e EBPF) attach(name string, hook ebpf.AttachType, program *ebpf.Program) error {
	if err := e.attachPinned(filepath.Join(e.Pins, name), hook, program); err != nil {
		return fmt.Errorf("program %s: %w", name, err)
	}
	return nil
}

func (e EBPF) attachPinned(pin string, hook ebpf.AttachType, program *ebpf.Program) error {
	pinned, err := link.LoadPinnedLink(pin, nil)
	if err == nil {
		defer func() { _ = pinned.Close() }()
		if e.isAtCgroup(pinned) {
			return pinned.Update(program)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	attached, err := link.AttachCgroup(link.CgroupOptions{Path: e.Cgroup, Attach: hook, Program: program})
	if err != nil {
		return err
	}
	defer func() { _ = attached.Close() }() // the pin keeps it
	if err := os.Remove(pin); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return attached.Pin(pin)
}

// isAtCgroup reports whether a link is attached to e.Cgroup. The number of a cgroup is
// the inode of its folder.
func (e EBPF) isAtCgroup(l link.Link) bool {
	var folder unix.Stat_t
	if err := unix.Stat(e.Cgroup, &folder); err != nil {
		return false
	}
	info, err := l.Info()
	return err == nil && info.Cgroup() != nil && info.Cgroup().CgroupId == folder.Ino
}

// Remove removes the pins, and with them everything that Install has installed, except
// the guard: the mode nftables shares it.
func (e EBPF) Remove() error {
	// The kernel detaches a link some time after it has lost its pin. If the process has
	// the permission, the link is detached now.
	for _, name := range []string{bpf.RedirectProgGkemdRedirect4, bpf.RedirectProgGkemdRedirect6} {
		if pinned, err := link.LoadPinnedLink(filepath.Join(e.Pins, name), nil); err == nil {
			_ = pinned.Detach()
			_ = pinned.Close()
		}
	}
	if err := os.RemoveAll(e.Pins); err != nil {
		return modeError(ModeEBPF, "remove the pins in "+e.Pins, "to be root", err)
	}
	return nil
}
