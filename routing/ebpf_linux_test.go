package routing

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"gke-metadata-emulator/internal/podtest"
)

const podUID = "11111111-2f0e-4d0a-9a53-3f1f4a3f7c11"

// node is a node with a pod whose connections are redirected.
type node struct {
	EBPF
	t       *testing.T
	network podtest.Network
	root    podtest.Cgroup
	pod     podtest.Cgroup
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, root: podtest.NewCgroup(t), network: podtest.NewNetwork(t)}
	n.pod = n.root.Pod(t, "burstable", podUID)
	n.EBPF = EBPF{Cgroup: filepath.Join(string(n.root), "kubepods"), Pins: filepath.Join(podtest.NewBPFFS(t), "gke-metadata-emulator")}
	n.network.AddAddress(t, "192.0.2.1/32")
	t.Cleanup(func() {
		if err := n.Remove(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// server answers its name to every connection to an address of the node.
func (n *node) server(address, name string) net.Listener {
	n.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(name))
			_ = c.Close()
		}
	}()
	return l
}

func (n *node) install(target string) {
	n.t.Helper()
	n.Target = netip.MustParseAddrPort(target)
	err := n.Install()
	// The verifier refuses a program with EACCES, which must not be a reason to skip.
	if os.Geteuid() != 0 && errors.Is(err, os.ErrPermission) {
		n.t.Skipf("%v: run the test as root", err)
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// reaches returns the answer to a connection of a process, or the error.
func reaches(p *podtest.Process, family, address string) string {
	s, err := p.Connect(family, "-", address)
	if err != nil {
		return err.Error()
	}
	answer, err := s.Read()
	if err != nil {
		return err.Error()
	}
	return answer
}

func (n *node) wantReaches(p *podtest.Process, family, address, want string) {
	n.t.Helper()
	if got := reaches(p, family, address); !strings.Contains(got, want) {
		n.t.Errorf("a socket of IPv%s to %s: %q, want %q", family, address, got, want)
	}
}

func TestEBPF_RedirectsPodsOnly(t *testing.T) {
	n := newNode(t)
	n.network.AddAddress(t, "169.254.169.254/32")
	n.server("169.254.169.254:80", "cloud")
	n.server("169.254.169.254:8080", "other-port")
	n.server("192.0.2.1:8987", "ours")
	n.server("192.0.2.1:80", "other-address")
	pod, daemon := n.pod.Start(t), n.root.NewChild(t, "system.slice/kubelet.service").Start(t)
	n.wantReaches(pod, "4", "169.254.169.254:80", "cloud") // otherwise the rest proves nothing
	n.wantReaches(pod, "6", "[::ffff:169.254.169.254]:80", "cloud")

	n.install("192.0.2.1:8987")
	n.wantReaches(pod, "4", "169.254.169.254:80", "ours")
	n.wantReaches(pod, "6", "[::ffff:169.254.169.254]:80", "ours")
	n.wantReaches(pod, "6", "[fd20:ce::254]:80", "ours")
	if got := reaches(pod, "multipath", "169.254.169.254:80"); got != "ours" && !strings.Contains(got, "protocol not") {
		t.Errorf("a socket of Multipath TCP reaches %q", got)
	}
	n.wantReaches(pod, "4", "169.254.169.254:8080", "other-port")
	n.wantReaches(pod, "6", "[::ffff:169.254.169.254]:8080", "other-port")
	n.wantReaches(pod, "4", "192.0.2.1:80", "other-address")
	n.wantReaches(pod, "6", "[::ffff:192.0.2.1]:80", "other-address")
	n.wantReaches(daemon, "4", "169.254.169.254:80", "cloud")
	n.wantReaches(daemon, "6", "[::ffff:169.254.169.254]:80", "cloud")
}

func TestEBPF_RedirectsPodWithOwnNetwork(t *testing.T) {
	n := newNode(t)
	n.server("192.0.2.1:8987", "ours")
	n.install("192.0.2.1:8987")
	n.network.NewPod(t, "pod0", "10.244.0.1", "10.244.0.7").Enter(t)
	pod := n.pod.Start(t)
	n.wantReaches(pod, "4", "169.254.169.254:80", "ours")
	n.wantReaches(pod, "6", "[::ffff:169.254.169.254]:80", "ours")
}

// Between two instances a connection is refused: it never reaches the server behind.
func TestEBPF_OutlivesInstallerAndSwitchesTarget(t *testing.T) {
	n := newNode(t)
	n.network.AddAddress(t, "169.254.169.254/32")
	n.server("169.254.169.254:80", "cloud")
	first := n.server("192.0.2.1:8987", "first")
	pod := n.pod.Start(t)
	n.install("192.0.2.1:8987") // which closes everything that it has opened
	n.wantReaches(pod, "4", "169.254.169.254:80", "first")
	_ = first.Close()
	for _, family := range []string{"4", "6"} {
		n.wantReaches(pod, family, "169.254.169.254:80", "connection refused")
	}
	n.server("192.0.2.1:8988", "second")
	answers := make(chan string, 1000)
	busy := make(chan struct{})
	other := n.pod.Start(t)
	go func() {
		defer close(answers)
		for {
			select {
			case <-busy:
				return
			case answers <- reaches(other, "4", "169.254.169.254:80"):
			}
		}
	}()
	n.install("192.0.2.1:8988")
	n.wantReaches(pod, "4", "169.254.169.254:80", "second")
	n.wantReaches(pod, "6", "169.254.169.254:80", "second")
	close(busy)
	for answer := range answers {
		if !strings.Contains(answer, "connection refused") && answer != "second" {
			t.Errorf("during the switch of the target: %q", answer)
		}
	}
}

func TestEBPF_RefusesConnectionWithoutTarget(t *testing.T) {
	n := newNode(t)
	n.network.AddAddress(t, "169.254.169.254/32")
	n.server("169.254.169.254:80", "cloud")
	n.install("[2001:db8::1]:8987") // a socket of IPv4 cannot reach it
	n.wantReaches(n.pod.Start(t), "4", "169.254.169.254:80", "operation not permitted")
}

// attached returns the number of programs at a hook of a cgroup.
func attached(t *testing.T, cgroup string, hook ebpf.AttachType) int {
	t.Helper()
	f, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	programs, err := link.QueryPrograms(link.QueryOptions{Target: int(f.Fd()), Attach: hook})
	if err != nil {
		t.Fatal(err)
	}
	return len(programs.Programs)
}

func TestEBPF_InstallAndRemoveAreIdempotent(t *testing.T) {
	n := newNode(t)
	n.network.AddAddress(t, "169.254.169.254/32")
	n.server("169.254.169.254:80", "cloud")
	n.server("192.0.2.1:8987", "ours")
	pod := n.pod.Start(t)
	for range 2 {
		for range 2 {
			n.install("192.0.2.1:8987")
			n.wantReaches(pod, "4", "169.254.169.254:80", "ours")
			for _, hook := range []ebpf.AttachType{ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect} {
				if programs := attached(t, n.Cgroup, hook); programs != 1 {
					t.Errorf("%d programs at %v", programs, hook)
				}
			}
		}
		for range 2 {
			if err := n.Remove(); err != nil {
				t.Fatal(err)
			}
		}
		if left := attached(t, n.Cgroup, ebpf.AttachCGroupInet4Connect) + attached(t, n.Cgroup, ebpf.AttachCGroupInet6Connect); left != 0 {
			t.Errorf("%d programs are left", left)
		}
		n.wantReaches(pod, "4", "169.254.169.254:80", "cloud")
		n.wantReaches(pod, "6", "169.254.169.254:80", "cloud")
		if _, err := os.Stat(n.Pins); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", n.Pins, err)
		}
	}
}

// Releases before the programs were written in C pinned a map without types (BTF). An
// upgrade takes over their map and links: no pod is without a redirect meanwhile.
func TestEBPF_TakesOverPinsOfEarlierRelease(t *testing.T) {
	n := newNode(t)
	n.server("192.0.2.1:8987", "ours")
	if err := os.Mkdir(n.Pins, 0o700); err != nil {
		t.Fatal(err)
	}
	targets, err := ebpf.NewMapWithOptions(&ebpf.MapSpec{
		Name: "gkemd_targets", Type: ebpf.Hash, KeySize: 4, ValueSize: 20, MaxEntries: 2, Pinning: ebpf.PinByName,
	}, ebpf.MapOptions{PinPath: n.Pins})
	if err != nil && os.Geteuid() != 0 {
		t.Skipf("%v: run the test as root", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer targets.Close()
	links := map[string]link.ID{}
	for name, hook := range map[string]ebpf.AttachType{"gkemd_redirect4": ebpf.AttachCGroupInet4Connect, "gkemd_redirect6": ebpf.AttachCGroupInet6Connect} {
		program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: name, Type: ebpf.CGroupSockAddr, AttachType: hook, License: "Apache-2.0",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}, // refuses everything
		})
		if err != nil {
			t.Fatal(err)
		}
		defer program.Close()
		old, err := link.AttachCgroup(link.CgroupOptions{Path: n.Cgroup, Attach: hook, Program: program})
		if err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		if err := old.Pin(filepath.Join(n.Pins, name)); err != nil {
			t.Fatal(err)
		}
		info, err := old.Info()
		if err != nil {
			t.Fatal(err)
		}
		links[name] = info.ID
	}

	n.install("192.0.2.1:8987")
	var target [20]byte
	if err := targets.Lookup(uint32(4), &target); err != nil || target != [20]byte{10: 0xff, 11: 0xff, 12: 192, 14: 2, 15: 1, 16: 8987 >> 8, 17: 8987 & 0xff} {
		t.Errorf("the map of the earlier release has the target %v (%v)", target, err)
	}
	for name, id := range links {
		pinned, err := link.LoadPinnedLink(filepath.Join(n.Pins, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer pinned.Close()
		if info, err := pinned.Info(); err != nil || info.ID != id {
			t.Errorf("the link %s was replaced (%v)", name, err)
		}
	}
	pod := n.pod.Start(t)
	n.wantReaches(pod, "4", "169.254.169.254:80", "ours")
	n.wantReaches(pod, "6", "[fd20:ce::254]:80", "ours")
}

// The kubelet recreates the cgroup of all pods if it was removed.
func TestEBPF_FollowsRecreatedCgroup(t *testing.T) {
	n := newNode(t)
	n.server("192.0.2.1:8987", "ours")
	n.install("192.0.2.1:8987")
	old := n.Cgroup
	n.Cgroup = string(n.root.NewChild(t, "recreated"))
	n.install("192.0.2.1:8987")
	n.wantReaches(podtest.Cgroup(n.Cgroup).Pod(t, "", podUID).Start(t), "4", "169.254.169.254:80", "ours")
	deadline := time.Now().Add(time.Minute)
	for attached(t, old, ebpf.AttachCGroupInet4Connect) != 0 { // the kernel detaches it later
		if time.Now().After(deadline) {
			t.Fatal("the program is still attached to the old cgroup")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestEBPF_KeepsOtherPrograms(t *testing.T) {
	n := newNode(t)
	runs, err := ebpf.NewMap(&ebpf.MapSpec{Name: "runs", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Skipf("no eBPF: %v: run the test as root", err)
	}
	defer runs.Close()
	other, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "other", Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, License: "Apache-2.0",
		Instructions: asm.Instructions{
			asm.StoreImm(asm.RFP, -4, 0, asm.Word),
			asm.LoadMapPtr(asm.R1, runs.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "out"),
			asm.Mov.Imm(asm.R1, 1),
			asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
			asm.Mov.Imm(asm.R0, 1).WithSymbol("out"),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	theirs, err := link.AttachCgroup(link.CgroupOptions{Path: n.Cgroup, Attach: ebpf.AttachCGroupInet4Connect, Program: other})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	n.server("192.0.2.1:8987", "ours")
	n.install("192.0.2.1:8987")
	n.wantReaches(n.pod.Start(t), "4", "169.254.169.254:80", "ours")
	if err := n.Remove(); err != nil {
		t.Fatal(err)
	}
	_, _ = n.pod.Start(t).Connect("4", "-", "192.0.2.1:8987")
	var count uint64
	if err := runs.Lookup(uint32(0), &count); err != nil || count != 2 {
		t.Errorf("the other program ran %d times (%v), want 2", count, err)
	}
}

func TestEBPF_NamesMissingCapabilities(t *testing.T) {
	n := newNode(t)
	n.Target = netip.MustParseAddrPort("192.0.2.1:8987")
	for _, capability := range []int{unix.CAP_BPF, unix.CAP_NET_ADMIN} {
		t.Run("", func(t *testing.T) {
			podtest.NewNetwork(t)                      // locks the thread
			dropped(t, unix.CAP_SYS_ADMIN, capability) // SYS_ADMIN includes the others
			err := n.Install()
			if err == nil || !strings.Contains(err.Error(), "the capabilities BPF and NET_ADMIN") || !errors.Is(err, os.ErrPermission) {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("no others are needed", func(t *testing.T) {
		podtest.NewNetwork(t)
		dropped(t, allBut(unix.CAP_BPF, unix.CAP_NET_ADMIN)...)
		if err := n.Install(); err != nil {
			t.Error(err)
		}
	})
}

func allBut(needed ...int) []int {
	var others []int
	for c := range unix.CAP_LAST_CAP + 1 {
		if !slices.Contains(needed, c) {
			others = append(others, c)
		}
	}
	return others
}

func TestEBPF_NamesFolderThatIsNoBPFFS(t *testing.T) {
	e := EBPF{Cgroup: "/", Pins: filepath.Join(t.TempDir(), "pins")}
	if err := e.Install(); err == nil || !strings.Contains(err.Error(), "is not a bpffs") {
		t.Errorf("error %v", err)
	}
}
