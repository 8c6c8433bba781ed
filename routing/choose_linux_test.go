package routing

import (
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// newOptions returns a node in a network of its own, and the options for it.
func newOptions(t *testing.T) (*node, Options) {
	t.Helper()
	n := newNode(t)
	return n, Options{
		Interface: "lo", BPFFS: filepath.Dir(n.Pins), Kubepods: n.Cgroup,
		Repaired: NewRepaired(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler),
	}
}

func TestOptions_ChooseFallsBackToPermittedMode(t *testing.T) {
	_, o := newOptions(t)
	skipWithoutModes(t, o)
	before := traces(t, o)
	noCgroup, noBPFFS := o, o
	noCgroup.Kubepods, noBPFFS.BPFFS = "", t.TempDir()
	for _, test := range []struct {
		name, mode, listen   string
		options              Options
		wantMode, wantReason string
	}{
		{"everything is available", ModeAuto, "192.0.2.1:8987", o, ModeEBPF, "the node permits it"},
		{"no cgroup of pods", ModeAuto, "192.0.2.1:8987", noCgroup, ModeNFTables, "see --cgroup-root"},
		{"no bpffs", ModeAuto, "192.0.2.1:8987", noBPFFS, ModeNFTables, "is not a bpffs"},
		{"metadata address", ModeAuto, "169.254.169.254:80", o, ModeAddress, "--listen is the metadata address"},
		{"other port", ModeAuto, "169.254.169.254:8080", o, ModeEBPF, "the node permits it"},
		{"given mode", ModeNone, "192.0.2.1:8987", o, ModeNone, "--routing is set"},
	} {
		mode, reason, err := test.options.Choose(test.mode, netip.MustParseAddrPort(test.listen))
		if err != nil || mode != test.wantMode || !strings.Contains(reason, test.wantReason) {
			t.Errorf("%s: %s, because %q (%v), want %s, because %q", test.name, mode, reason, err, test.wantMode, test.wantReason)
		}
	}
	if after := traces(t, o); !slices.Equal(before, after) {
		t.Errorf("Choose has changed the node from %v to %v", before, after)
	}
}

func TestOptions_ChooseNamesRemedyIfNoModeIsPossible(t *testing.T) {
	_, o := newOptions(t)
	dropped(t, allBut()...)
	_, _, err := o.Choose(ModeAuto, netip.MustParseAddrPort("192.0.2.1:8987"))
	if err == nil {
		t.Fatal("a mode is chosen without capabilities")
	}
	for _, part := range []string{"--routing=auto", "--listen=169.254.169.254:80", capabilitiesBPF, capabilityNetAdmin} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %v, want one that contains %q", err, part)
		}
	}
}

func skipWithoutModes(t *testing.T, o Options) {
	t.Helper()
	target := netip.MustParseAddrPort("192.0.2.1:8987")
	if err := o.ebpf(target).Probe(); err != nil {
		t.Skip(err)
	}
	if err := o.nftables(target).Probe(); err != nil {
		t.Skip(err)
	}
}

// traces returns what the modes have left on the node.
func traces(t *testing.T, o Options) []string {
	t.Helper()
	pins := must(t, filepath.Glob, filepath.Join(o.BPFFS, "*"))
	return slices.Concat(pins, ruleset(t), []string{rules(t), addresses(t, "lo")})
}

func TestOptions_RemoveOthersKeepsOneMode(t *testing.T) {
	n, o := newOptions(t)
	skipWithoutModes(t, o)
	n.network.AddDefaultRoute(t) // without a route the kernel sends no packet that a table could redirect
	before := traces(t, o)
	n.server("192.0.2.1:8987", "ours")
	pod := n.pod.Start(t)
	for _, mode := range []string{ModeEBPF, ModeNFTables, ModeAddress, ModeEBPF, ModeAddress, ModeNFTables, ModeEBPF} {
		router := o.Router(mode, netip.MustParseAddrPort("192.0.2.1:8987"))
		if router.String() != mode {
			t.Fatalf("the router of %s is %s", mode, router)
		}
		check(t, router.Install())
		check(t, o.RemoveOthers(router))
		traces := strings.Join(traces(t, o), ", ")
		for other, trace := range map[string]string{ModeEBPF: n.Pins, ModeNFTables: "table ", ModeAddress: "169.254.169.254/32 scope"} {
			if strings.Contains(traces, trace) != (other == mode) {
				t.Errorf("in the mode %s the node has %s", mode, traces)
			}
		}
		if guarded := strings.Contains(traces, "17 169.254.169.254/32"); guarded != (mode != ModeAddress) {
			t.Errorf("in the mode %s the node has %s", mode, traces)
		}
		if mode != ModeAddress {
			n.wantReaches(pod, "4", "169.254.169.254:80", "ours")
		}
	}
	installed := traces(t, o)
	check(t, o.RemoveOthers(o.Router(ModeNone, netip.AddrPort{})))
	if after := traces(t, o); !slices.Equal(installed, after) {
		t.Errorf("the mode none has changed the node from %v to %v", installed, after)
	}
	for range 2 {
		check(t, o.RemoveAll())
		if after := traces(t, o); !slices.Equal(before, after) {
			t.Errorf("RemoveAll leaves %v, want %v", after, before)
		}
	}
}

// While the guard is gone, packets without a socket reach the server behind the node.
func TestOptions_RemoveOthersKeepsGuard(t *testing.T) {
	_, o := newOptions(t)
	skipWithoutModes(t, o)
	target := netip.MustParseAddrPort("192.0.2.1:8987")
	check(t, o.Router(ModeEBPF, target).Install())
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_RULE)
	check(t, err)
	defer socket.Close()
	for _, mode := range []string{ModeEBPF, ModeNFTables, ModeNFTables, ModeEBPF} {
		router := o.Router(mode, target)
		check(t, router.Install())
		check(t, o.RemoveOthers(router))
	}
	marker := netlink.NewRule()
	marker.Priority, marker.Table = 9999, unix.RT_TABLE_MAIN
	check(t, netlink.RuleAdd(marker))
	messages, _, err := socket.Receive()
	check(t, err)
	// The first notification is the marker's, not that a rule of the guard was deleted.
	if got := messages[0].Header.Type; got != unix.RTM_NEWRULE {
		t.Errorf("the rules of the guard have changed: message %d", got)
	}
}

func TestIsMetadataAddress_NeedsAddressAndPort(t *testing.T) {
	for address, want := range map[string]bool{"169.254.169.254:80": true, "169.254.169.254:8080": false, "169.254.169.253:80": false} {
		if got := isMetadataAddress(netip.MustParseAddrPort(address)); got != want {
			t.Errorf("%s: %t, want %t", address, got, want)
		}
	}
}
