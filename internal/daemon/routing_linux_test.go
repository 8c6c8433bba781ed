package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/podtest"
	"gke-metadata-emulator/routing"
)

const (
	cartUID = "11111111-2f0e-4d0a-9a53-3f1f4a3f7c11"
	billUID = "22222222-2f0e-4d0a-9a53-3f1f4a3f7c22"
)

// testNode is a node with a pod of the node's network and a pod with its own network.
type testNode struct {
	t        *testing.T
	settings *Serve
	root     podtest.Cgroup
	host     *podtest.Process
	pod      *podtest.Process
	before   []string
}

func newTestNode(t *testing.T, mode, listen string) *testNode {
	t.Helper()
	n := &testNode{t: t, root: podtest.NewCgroup(t)}
	network := podtest.NewNetwork(t)
	network.AddAddress(t, "192.0.2.1/32")
	network.AddDefaultRoute(t)
	cart, bill := n.root.Pod(t, "burstable", cartUID), n.root.Pod(t, "", billUID)
	n.host = cart.Start(t)
	network.NewPod(t, "bill0", "10.244.0.1", "10.244.0.7").Enter(t)
	n.pod = bill.Start(t)
	network.Enter(t)
	n.settings = &Serve{
		Routing: mode, Listen: listen, AdminListen: "127.0.0.1:0", Interface: "lo", BPFFS: podtest.NewBPFFS(t),
		Attestation: AttestationRequire, CgroupRoot: string(n.root),
	}
	if err := errors.Join(n.settings.checkRouting(), n.settings.checkAttestation()); err != nil {
		t.Fatal(err)
	}
	n.before = n.traces()
	return n
}

// traces returns everything that a mode of routing or attestation could leave.
func (n *testNode) traces() []string {
	n.t.Helper()
	var all []string
	lo, err := netlink.LinkByName("lo")
	n.check(err)
	addresses, err := netlink.AddrList(lo, netlink.FAMILY_ALL)
	n.check(err)
	for _, a := range addresses {
		all = append(all, "address "+a.IPNet.String())
	}
	rules, err := netlink.RuleList(netlink.FAMILY_ALL)
	n.check(err)
	for _, rule := range rules {
		all = append(all, fmt.Sprintf("rule %d to %v", rule.Priority, rule.Dst))
	}
	c, err := nftables.New()
	n.check(err)
	tables, err := c.ListTables()
	n.check(err)
	for _, table := range tables {
		all = append(all, "table "+table.Name)
	}
	kubepods, err := os.Open(filepath.Join(string(n.root), "kubepods"))
	n.check(err)
	defer kubepods.Close()
	for _, hook := range []ebpf.AttachType{ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect, ebpf.AttachCGroupSockOps} {
		programs, err := link.QueryPrograms(link.QueryOptions{Target: int(kubepods.Fd()), Attach: hook})
		n.check(err)
		all = append(all, fmt.Sprintf("%d programs at %v", len(programs.Programs), hook))
	}
	pins, err := os.ReadDir(n.settings.BPFFS)
	n.check(err)
	for _, pin := range pins {
		all = append(all, "pin "+pin.Name())
	}
	return all
}

func (n *testNode) check(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// start opens and installs as Run does.
func (n *testNode) start() (*listeners, *attestation, string) {
	n.t.Helper()
	a, err := n.settings.attestation(prometheus.NewRegistry(), discard)
	if errors.Is(err, os.ErrPermission) {
		n.t.Skipf("%v: run the test as root", err)
	}
	n.check(err)
	routes := routing.Options{Interface: "lo", BPFFS: n.settings.BPFFS, Kubepods: a.kubepods(), Repaired: routing.NewRepaired(prometheus.NewRegistry()), Log: discard}
	mode, _, err := n.settings.chooseRouting(routes)
	n.check(err)
	listeners, _, err := n.settings.openRouted(routes, mode, a)
	if err != nil {
		_ = a.close()
	}
	n.check(err)
	return listeners, a, mode
}

func (n *testNode) wantUID(f *listeners, a *attestation, p *podtest.Process, family, to, uid string) {
	n.t.Helper()
	s, err := p.Connect(family, "-", to)
	n.check(err)
	c, err := f.callers.Accept()
	n.check(err)
	caller, err := c.(identity.Attested).Caller()
	if err != nil || caller.PodUID != uid {
		n.t.Errorf("a socket of IPv%s to %s: pod %q (%v), want %q", family, to, caller.PodUID, err, uid)
	}
	_ = c.Close()
	n.check(s.Close())
}

func TestRouting_EachModeBringsProvedPodsAndCleanupLeavesNothing(t *testing.T) {
	for _, test := range []struct{ mode, listen, to, chosen string }{
		{RoutingAddress, "169.254.169.254:80", "169.254.169.254:80", RoutingAddress},
		{RoutingEBPF, "192.0.2.1:8987", "169.254.169.254:80", RoutingEBPF},
		{RoutingNFTables, "192.0.2.1:8987", "169.254.169.254:80", RoutingNFTables},
		{RoutingNone, "192.0.2.1:8987", "192.0.2.1:8987", RoutingNone},
		{RoutingNone, "0.0.0.0:8987", "192.0.2.1:8987", RoutingNone},
		{RoutingNone, "[::]:8987", "192.0.2.1:8987", RoutingNone},
		{RoutingNone, "192.0.2.1:0", "", RoutingNone},
		{RoutingAuto, "169.254.169.254:80", "169.254.169.254:80", RoutingAddress},
		{RoutingAuto, "192.0.2.1:8987", "169.254.169.254:80", RoutingEBPF},
	} {
		t.Run(test.mode+" "+test.listen, func(t *testing.T) {
			n := newTestNode(t, test.mode, test.listen)
			for range 2 { // as after a restart
				listeners, a, mode := n.start()
				if mode != test.chosen {
					t.Errorf("the mode is %s", mode)
				}
				if listeners.leavesOutNode {
					t.Error("the listeners report that pods of the node's network are not redirected")
				}
				to := test.to
				if to == "" {
					to = listeners.callers.Addr().String()
				}
				for _, family := range []string{"4", "6"} {
					n.wantUID(listeners, a, n.host, family, to, cartUID)
					n.wantUID(listeners, a, n.pod, family, to, billUID)
				}
				listeners.close()
				n.check(a.close())
				if s, err := n.pod.Connect("4", "-", to); err == nil || !strings.Contains(err.Error(), "connection refused") {
					t.Errorf("after the end of the daemon a pod reaches %v (%v)", s, err)
				}
			}
			cleanup := &Cleanup{Interface: "lo", BPFFS: n.settings.BPFFS}
			n.check(cleanup.Run())
			n.check(cleanup.Run())
			after := n.traces()
			// The kernel detaches the programs of the recorder a moment later.
			for deadline := time.Now().Add(time.Minute); !cmp.Equal(n.before, after) && time.Now().Before(deadline); after = n.traces() {
				time.Sleep(10 * time.Millisecond)
			}
			if diff := cmp.Diff(n.before, after); diff != "" {
				t.Errorf("cleanup leaves traces (-before +after):\n%s", diff)
			}
		})
	}
}

// A readiness probe is a process of the node's network, too.
func TestReadiness_NamesServerIfNodeIsNotRedirected(t *testing.T) {
	n := newTestNode(t, RoutingNFTables, "192.0.2.1:8987")
	_, a, _ := n.start()
	t.Cleanup(func() { n.check(a.close()) })
	n.settings.Listen = "192.0.2.1:8988"
	routes := routing.Options{Interface: "lo", BPFFS: n.settings.BPFFS, Repaired: routing.NewRepaired(prometheus.NewRegistry()), Log: discard}
	listeners, _, err := n.settings.openRouted(routes, RoutingNFTables, a)
	n.check(err)
	t.Cleanup(listeners.close)
	if got, want := listeners.nodeURL(), "http://192.0.2.1:8988"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Traces of an earlier mode would lead to another server.
func TestRouting_ModeReplacesEarlierMode(t *testing.T) {
	n := newTestNode(t, RoutingEBPF, "192.0.2.1:8987")
	for _, test := range []struct{ mode, listen string }{
		{RoutingEBPF, "192.0.2.1:8987"},
		{RoutingNFTables, "192.0.2.1:8988"},
		{RoutingAddress, "169.254.169.254:80"},
		{RoutingEBPF, "192.0.2.1:8989"},
		{RoutingAddress, "169.254.169.254:80"},
		{RoutingNFTables, "192.0.2.1:8990"},
	} {
		n.settings.Routing, n.settings.Listen = test.mode, test.listen
		t.Log(test.mode, test.listen)
		listeners, a, _ := n.start()
		n.wantUID(listeners, a, n.host, "4", "169.254.169.254:80", cartUID)
		n.wantUID(listeners, a, n.pod, "4", "169.254.169.254:80", billUID)
		listeners.close()
		n.check(a.close())
		traces := strings.Join(n.traces(), ", ")
		for mode, trace := range map[string]string{RoutingEBPF: "pin gke", RoutingNFTables: "table ", RoutingAddress: "address 169.254.169.254"} {
			if strings.Contains(traces, trace) != (mode == test.mode) {
				t.Errorf("with %s there is %s", test.mode, traces)
			}
		}
		if guarded := strings.Contains(traces, "rule 17 "); guarded != (test.mode != RoutingAddress) {
			t.Errorf("with %s there is %s", test.mode, traces)
		}
	}
}

func TestAttestation_NamesWhatIsMissing(t *testing.T) {
	n := newTestNode(t, RoutingNone, "192.0.2.1:8987")
	n.settings.CgroupRoot = filepath.Join(string(n.root), "nothing")
	_, err := n.settings.attestation(prometheus.NewRegistry(), discard)
	flagError(t, err, "cgroup-root", "no such file")
	for _, policy := range []string{AttestationPrefer, AttestationRequire} {
		var logged strings.Builder
		s := *n.settings
		s.CgroupRoot, s.Attestation = "", policy
		a, err := s.attestation(prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&logged, nil)))
		if err == nil && a.cgroups != nil {
			n.check(a.close())
			t.Skip("this machine has a kubelet of its own")
		}
		switch policy {
		case AttestationPrefer:
			if err != nil || a.mode != "address" || !strings.Contains(logged.String(), "known by their addresses") {
				t.Errorf("%s: error %v, log %q", policy, err, logged.String())
			}
			n.check(a.close())
		case AttestationRequire:
			if err == nil || !strings.Contains(err.Error(), "--attestation=require") {
				t.Errorf("%s: error %v", policy, err)
			}
		}
	}
}
