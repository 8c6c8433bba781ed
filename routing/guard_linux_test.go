package routing

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// rules returns the rules of routing of the thread's network.
func rules(t *testing.T) string {
	t.Helper()
	var all []string
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := netlink.RuleList(family)
		check(t, err)
		for _, rule := range list {
			all = append(all, fmt.Sprint(rule.Priority, rule.Dst, rule.IifName, rule.Type))
		}
	}
	return strings.Join(all, ", ")
}

// A virtual machine, or a container that forges packets, has no socket that a program
// could see. Its packets must not reach the server behind the node.
func TestGuard_StopsPacketsWithoutSocket(t *testing.T) {
	n := newNode(t)
	check(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	before := rules(t)
	cloud := n.network.NewPod(t, "cloud0", "10.99.0.1", "169.254.169.254")
	cloud.Enter(t)
	n.server("169.254.169.254:80", "cloud")
	n.server("169.254.169.254:53", "resolver")
	n.network.Enter(t)
	daemon := n.root.NewChild(t, "system.slice/kubelet.service").Start(t)
	n.network.NewPod(t, "vm0", "10.244.0.1", "10.244.0.7").Enter(t)
	vm, pod := n.root.NewChild(t, "system.slice/vm").Start(t), n.pod.Start(t)
	n.network.Enter(t)
	n.server("192.0.2.1:8987", "ours")
	n.wantReaches(vm, "4", "169.254.169.254:80", "cloud") // otherwise the rest proves nothing

	for range 2 {
		n.install("192.0.2.1:8987")
	}
	if got := reaches(vm, "4", "169.254.169.254:80"); got == "cloud" || got == "ours" || got == "" {
		t.Errorf("packets without a socket reach %q", got)
	}
	n.wantReaches(vm, "4", "169.254.169.254:53", "resolver")
	n.wantReaches(pod, "4", "169.254.169.254:80", "ours")
	n.wantReaches(pod, "4", "169.254.169.254:53", "resolver")
	n.wantReaches(daemon, "4", "169.254.169.254:80", "cloud")

	table := &NFTables{Cgroup: n.Cgroup, Target: n.Target, Log: slog.New(slog.DiscardHandler)}
	check(t, n.Remove())
	check(t, table.Install())
	n.wantReaches(vm, "4", "169.254.169.254:80", "ours")
	c, err := nftables.New()
	check(t, err)
	c.FlushRuleset()
	check(t, c.Flush())
	if got := reaches(vm, "4", "169.254.169.254:80"); got == "cloud" {
		t.Error("while the table is flushed a pod reaches the server behind the node")
	}
	n.wantReaches(daemon, "4", "169.254.169.254:80", "cloud")
	check(t, table.Remove())

	n.install("192.0.2.1:8987")
	check(t, EBPF{Cgroup: n.Cgroup, Pins: n.Pins, Target: netip.AddrPort{}}.Remove())
	check(t, removeGuard())
	if after := rules(t); after != before {
		t.Errorf("before %s, after %s", before, after)
	}
	n.wantReaches(vm, "4", "169.254.169.254:80", "cloud")
}
