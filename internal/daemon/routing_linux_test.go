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
	"gke-metadata-emulator/identity/attest"
	"gke-metadata-emulator/internal/config"
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
	settings serve
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
	s := federation()
	s.Routing = config.Routing{Mode: mode, Interface: "lo", BPFFS: podtest.NewBPFFS(t)}
	s.Listen = config.Listen{Address: listen, Admin: "127.0.0.1:0"}
	s.Attestation = config.Attestation{Policy: string(attest.Require), CgroupRoot: string(n.root)}
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	n.settings = serve{s}
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
	pins, err := os.ReadDir(n.settings.Routing.BPFFS)
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

// start opens and installs as Serve does.
func (n *testNode) start() (*listeners, *attest.Attestation, string) {
	n.t.Helper()
	a, err := n.settings.attestation(prometheus.NewRegistry(), discard)
	if errors.Is(err, os.ErrPermission) {
		n.t.Skipf("%v: run the test as root", err)
	}
	n.check(err)
	routes := routing.Options{Interface: "lo", BPFFS: n.settings.Routing.BPFFS, Kubepods: a.Kubepods(), Repaired: routing.NewRepaired(prometheus.NewRegistry()), Log: discard}
	mode, _, err := n.settings.chooseRouting(routes)
	n.check(err)
	listeners, _, err := n.settings.openRouted(routes, mode, a)
	if err != nil {
		_ = a.Close()
	}
	n.check(err)
	return listeners, a, mode
}

func (n *testNode) wantUID(f *listeners, a *attest.Attestation, p *podtest.Process, family, to, uid string) {
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
		{routing.ModeAddress, "169.254.169.254:80", "169.254.169.254:80", routing.ModeAddress},
		{routing.ModeEBPF, "192.0.2.1:8987", "169.254.169.254:80", routing.ModeEBPF},
		{routing.ModeNFTables, "192.0.2.1:8987", "169.254.169.254:80", routing.ModeNFTables},
		{routing.ModeNone, "192.0.2.1:8987", "192.0.2.1:8987", routing.ModeNone},
		{routing.ModeNone, "0.0.0.0:8987", "192.0.2.1:8987", routing.ModeNone},
		{routing.ModeNone, "[::]:8987", "192.0.2.1:8987", routing.ModeNone},
		{routing.ModeNone, "192.0.2.1:0", "", routing.ModeNone},
		{routing.ModeAuto, "169.254.169.254:80", "169.254.169.254:80", routing.ModeAddress},
		{routing.ModeAuto, "192.0.2.1:8987", "169.254.169.254:80", routing.ModeEBPF},
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
				n.check(a.Close())
				if s, err := n.pod.Connect("4", "-", to); err == nil || !strings.Contains(err.Error(), "connection refused") {
					t.Errorf("after the end of the daemon a pod reaches %v (%v)", s, err)
				}
			}
			cleanup := &config.Cleanup{Interface: "lo", BPFFS: n.settings.Routing.BPFFS}
			n.check(Cleanup(cleanup))
			n.check(Cleanup(cleanup))
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
	n := newTestNode(t, routing.ModeNFTables, "192.0.2.1:8987")
	_, a, _ := n.start()
	t.Cleanup(func() { n.check(a.Close()) })
	n.settings.Listen.Address = "192.0.2.1:8988"
	routes := routing.Options{Interface: "lo", BPFFS: n.settings.Routing.BPFFS, Repaired: routing.NewRepaired(prometheus.NewRegistry()), Log: discard}
	listeners, _, err := n.settings.openRouted(routes, routing.ModeNFTables, a)
	n.check(err)
	t.Cleanup(listeners.close)
	if got, want := listeners.nodeURL(), "http://192.0.2.1:8988"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Traces of an earlier mode would lead to another server.
func TestRouting_ModeReplacesEarlierMode(t *testing.T) {
	n := newTestNode(t, routing.ModeEBPF, "192.0.2.1:8987")
	for _, test := range []struct{ mode, listen string }{
		{routing.ModeEBPF, "192.0.2.1:8987"},
		{routing.ModeNFTables, "192.0.2.1:8988"},
		{routing.ModeAddress, "169.254.169.254:80"},
		{routing.ModeEBPF, "192.0.2.1:8989"},
		{routing.ModeAddress, "169.254.169.254:80"},
		{routing.ModeNFTables, "192.0.2.1:8990"},
	} {
		n.settings.Routing.Mode, n.settings.Listen.Address = test.mode, test.listen
		t.Log(test.mode, test.listen)
		listeners, a, _ := n.start()
		n.wantUID(listeners, a, n.host, "4", "169.254.169.254:80", cartUID)
		n.wantUID(listeners, a, n.pod, "4", "169.254.169.254:80", billUID)
		listeners.close()
		n.check(a.Close())
		traces := strings.Join(n.traces(), ", ")
		for mode, trace := range map[string]string{routing.ModeEBPF: "pin gke", routing.ModeNFTables: "table ", routing.ModeAddress: "address 169.254.169.254"} {
			if strings.Contains(traces, trace) != (mode == test.mode) {
				t.Errorf("with %s there is %s", test.mode, traces)
			}
		}
		if guarded := strings.Contains(traces, "rule 17 "); guarded != (test.mode != routing.ModeAddress) {
			t.Errorf("with %s there is %s", test.mode, traces)
		}
	}
}

func TestAttestation_NamesMissingCgroups(t *testing.T) {
	n := newTestNode(t, routing.ModeNone, "192.0.2.1:8987")
	n.settings.Attestation.CgroupRoot = filepath.Join(string(n.root), "nothing")
	_, err := n.settings.attestation(prometheus.NewRegistry(), discard)
	flagError(t, err, "cgroup-root", "no such file")
	for _, policy := range []attest.Policy{attest.Prefer, attest.Require} {
		var logged strings.Builder
		n.settings.Attestation = config.Attestation{Policy: string(policy)}
		a, err := n.settings.attestation(prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&logged, nil)))
		if err == nil && a.Kubepods() != "" {
			n.check(a.Close())
			t.Skip("this machine has a kubelet of its own")
		}
		switch policy {
		case attest.Prefer:
			if err != nil || a.Mode() != "address" || !strings.Contains(logged.String(), "pods are identified by source IP") {
				t.Errorf("%s: error %v, log %q", policy, err, logged.String())
			}
			n.check(a.Close())
		case attest.Require:
			if err == nil || !strings.Contains(err.Error(), "--attestation=require") {
				t.Errorf("%s: error %v", policy, err)
			}
		}
	}
}
