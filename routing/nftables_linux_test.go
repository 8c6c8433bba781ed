package routing

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gke-metadata-emulator/internal/podtest"
)

// newTable returns a node as newNode does, with a table instead of programs.
func newTable(t *testing.T, target string) (*node, *NFTables) {
	t.Helper()
	n := &node{t: t, root: podtest.NewCgroup(t), network: podtest.NewNetwork(t)}
	n.pod = n.root.Pod(t, "burstable", podUID)
	n.network.AddAddress(t, "192.0.2.1/32")
	table := &NFTables{
		Cgroup: filepath.Join(string(n.root), "kubepods"), Target: netip.MustParseAddrPort(target),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Repaired: NewRepaired(prometheus.NewRegistry()),
	}
	if err := table.Probe(); err != nil {
		t.Skipf("no nf_tables: %v", err)
	}
	return n, table
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// counts returns the numbers of packets that the rules have counted, by chain.
func counts(t *testing.T, n *NFTables) map[string]uint64 {
	t.Helper()
	c, err := nftables.New()
	check(t, err)
	packets := map[string]uint64{}
	for _, chain := range n.chains() {
		rules, err := c.GetRules(&nftables.Table{Name: tableName, Family: n.family()}, &nftables.Chain{Name: chain.name})
		check(t, err)
		for _, rule := range rules {
			for _, e := range rule.Exprs {
				if counter, ok := e.(*expr.Counter); ok {
					packets[chain.name] += counter.Packets
				}
			}
		}
	}
	return packets
}

func TestNFTables_RedirectsPodsOnly(t *testing.T) {
	n, table := newTable(t, "192.0.2.1:8987")
	n.network.AddAddress(t, "169.254.169.254/32")
	n.server("169.254.169.254:80", "cloud")
	n.server("169.254.169.254:8080", "other-port")
	n.server("192.0.2.1:8987", "ours")
	hostNetwork, daemon := n.pod.Start(t), n.root.NewChild(t, "system.slice/kubelet.service").Start(t)
	n.network.NewPod(t, "pod0", "10.244.0.1", "10.244.0.7").Enter(t)
	pod := n.root.Pod(t, "", "22222222-2f0e-4d0a-9a53-3f1f4a3f7c22").Start(t)
	n.network.Enter(t)
	n.wantReaches(pod, "4", "169.254.169.254:80", "cloud")

	check(t, table.Install())
	for _, p := range []*podtest.Process{pod, hostNetwork} {
		n.wantReaches(p, "4", "169.254.169.254:80", "ours")
		n.wantReaches(p, "6", "[::ffff:169.254.169.254]:80", "ours")
		n.wantReaches(p, "4", "169.254.169.254:8080", "other-port")
	}
	n.wantReaches(daemon, "4", "169.254.169.254:80", "cloud")
	// The last packet of a forgotten connection is counted as a new connection.
	if got := counts(t, table); got["prerouting"] < 2 || got["output"] != 2 {
		t.Errorf("the rules counted %v connections", got)
	}
}

// A node of kind sees a part of the hierarchy only, and cannot know the levels above.
func TestNFTables_RedirectsPodsOfContainerNode(t *testing.T) {
	n, table := newTable(t, "192.0.2.1:8987")
	n.root = n.root.NewChild(t, "docker/node-1/kubelet.slice")
	table.Cgroup = filepath.Join(string(n.root), "kubepods")
	n.network.AddAddress(t, "169.254.169.254/32")
	n.server("169.254.169.254:80", "cloud")
	n.server("192.0.2.1:8987", "ours")
	hostNetwork, daemon := n.root.Pod(t, "burstable", podUID).Start(t), n.root.NewChild(t, "kubelet").Start(t)
	check(t, table.Install())
	n.wantReaches(hostNetwork, "4", "169.254.169.254:80", "ours")
	n.wantReaches(daemon, "4", "169.254.169.254:80", "cloud")
}

// Otherwise a connection from before the table would continue to the other server.
func TestNFTables_ForgetsConnectionsToOtherServers(t *testing.T) {
	n, table := newTable(t, "192.0.2.1:8987")
	n.network.AddAddress(t, "169.254.169.254/32")
	n.server("169.254.169.254:80", "cloud")
	n.server("192.0.2.1:8987", "ours")
	hold, err := nftables.New()
	check(t, err)
	other := hold.AddTable(&nftables.Table{Name: "other", Family: nftables.TableFamilyIPv4})
	chain := hold.AddChain(&nftables.Chain{Table: other, Name: "any", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityFilter})
	// The kernel starts conntrack with the first rule that uses it.
	hold.AddRule(&nftables.Rule{Table: other, Chain: chain, Exprs: []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}}})
	check(t, hold.Flush())
	n.network.NewPod(t, "pod0", "10.244.0.1", "10.244.0.7").Enter(t)
	pod := n.pod.Start(t)
	n.network.Enter(t)
	n.wantReaches(pod, "4", "169.254.169.254:80", "cloud")
	if n := conntracked(t, "169.254.169.254"); n == 0 {
		t.Fatal("conntrack has no entry, so the test proves nothing")
	}
	check(t, table.Install())
	if n := conntracked(t, "169.254.169.254"); n != 0 {
		t.Errorf("conntrack still has %d connections to the other server", n)
	}
	n.wantReaches(pod, "4", "169.254.169.254:80", "ours")
	before := conntracked(t, "169.254.169.254")
	check(t, table.Install()) // as a new instance does
	if after := conntracked(t, "169.254.169.254"); after != before || before == 0 {
		t.Errorf("of %d connections to the target conntrack has %d", before, after)
	}
}

// conntracked returns the number of conntrack entries of connections to an address.
func conntracked(t *testing.T, ip string) int {
	t.Helper()
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	check(t, err)
	count := 0
	for _, flow := range flows {
		if flow.Forward.DstIP.String() == ip {
			count++
		}
	}
	return count
}

// ruleset returns the tables of the network.
func ruleset(t *testing.T) []string {
	t.Helper()
	c, err := nftables.New()
	check(t, err)
	tables, err := c.ListTables()
	check(t, err)
	var all []string
	for _, table := range tables {
		all = append(all, "table "+table.Name)
	}
	return all
}

func TestNFTables_InstallAndRemoveAreIdempotent(t *testing.T) {
	_, table := newTable(t, "192.0.2.1:8987")
	other, err := nftables.New()
	check(t, err)
	other.AddTable(&nftables.Table{Name: "other", Family: nftables.TableFamilyIPv4})
	check(t, other.Flush())
	before := ruleset(t)
	for range 2 {
		check(t, errors.Join(table.Install(), table.Install()))
		if ok, err := table.intact(); !ok || err != nil {
			t.Errorf("installed: intact %t (%v)", ok, err)
		}
		check(t, errors.Join(table.Remove(), table.Remove()))
		if after := ruleset(t); !reflect.DeepEqual(before, after) {
			t.Errorf("before %v, after %v", before, after)
		}
	}
}

// keep runs Keep in the test's network until the test ends.
func keep(t *testing.T, n *node, table *NFTables) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock it: the thread ends with its network
		n.network.Enter(t)
		ended <- table.Keep(ctx)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestNFTables_RepairsChangedTable(t *testing.T) {
	ours := func(n *NFTables) *nftables.Table { return &nftables.Table{Name: tableName, Family: n.family()} }
	n, table := newTable(t, "192.0.2.1:8987")
	n.network.AddAddress(t, "169.254.169.254/32")
	n.server("192.0.2.1:8987", "ours")
	check(t, table.Install())
	keep(t, n, table)
	pod := n.pod.Start(t)
	repairs := 0
	for _, change := range []struct {
		name string
		do   func(*nftables.Conn)
	}{
		{"the ruleset is flushed", func(c *nftables.Conn) { c.FlushRuleset() }},
		{"the table is deleted", func(c *nftables.Conn) { c.DelTable(ours(table)) }},
		{"the rules are flushed", func(c *nftables.Conn) { c.FlushTable(ours(table)) }},
		{"a rule is added", func(c *nftables.Conn) {
			c.InsertRule(&nftables.Rule{Table: ours(table), Chain: &nftables.Chain{Name: "output"}, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}})
		}},
	} {
		c, err := nftables.New()
		check(t, err)
		change.do(c)
		start := time.Now()
		check(t, c.Flush())
		repairs++
		for testutil.ToFloat64(table.Repaired.WithLabelValues("repaired")) < float64(repairs) {
			if time.Since(start) > time.Minute {
				t.Fatalf("%s: the table is not repaired", change.name)
			}
			time.Sleep(time.Millisecond)
		}
		t.Logf("%s: repaired after %s", change.name, time.Since(start).Round(100*time.Microsecond))
		if ok, err := table.intact(); !ok || err != nil {
			t.Errorf("%s: intact %t (%v)", change.name, ok, err)
		}
		n.wantReaches(pod, "4", "169.254.169.254:80", "ours")
		time.Sleep(4 * checkPause) // enough for Keep to repair its own repair, if it did so
	}
	if got := testutil.ToFloat64(table.Repaired.WithLabelValues("repaired")); int(got) != repairs {
		t.Errorf("%v repairs, want %d: Keep repairs its own repairs", got, repairs)
	}
}

// A repair that fails changes nothing, so the kernel sends no notification of it.
func TestNFTables_RetriesFailedRepairWithoutNotification(t *testing.T) {
	n, table := newTable(t, "192.0.2.1:8987")
	table.Target = netip.AddrPort{} // the kernel refuses a table without a target
	start := time.Now()
	keep(t, n, table)
	for testutil.ToFloat64(table.Repaired.WithLabelValues("failed")) < 2 {
		if time.Since(start) > checkInterval {
			t.Fatal("the repair was not retried")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if early := time.Since(start); early < repairPause {
		t.Errorf("the repair was retried after %s, want at least %s", early, repairPause)
	}
}

func TestNFTables_NamesMissingCapability(t *testing.T) {
	_, table := newTable(t, "192.0.2.1:8987")
	dropped(t, unix.CAP_NET_ADMIN)
	for _, err := range []error{table.Install(), table.Remove(), table.Probe()} {
		if err == nil || !strings.Contains(err.Error(), "the capability NET_ADMIN") || !errors.Is(err, os.ErrPermission) {
			t.Errorf("error %v", err)
		}
	}
}

func TestNFTables_NeedsNoOtherCapability(t *testing.T) {
	_, table := newTable(t, "192.0.2.1:8987")
	dropped(t, allBut(unix.CAP_NET_ADMIN)...)
	check(t, errors.Join(table.Probe(), table.Install(), table.Remove()))
}

func TestNFTables_IPv6TargetUsesIPv6Table(t *testing.T) {
	n, table := newTable(t, "[2001:db8::1]:8987")
	n.network.AddAddress(t, "2001:db8::1/128")
	n.network.AddAddress(t, "fd20:ce::254/128")
	waitForIPv6(t)
	n.server("[2001:db8::1]:8987", "ours")
	check(t, table.Install())
	n.wantReaches(n.pod.Start(t), "6", "[fd20:ce::254]:80", "ours")
	check(t, table.Remove())
}

// waitForIPv6 waits until duplicate address detection has ended: no socket can listen at
// a tentative address.
func waitForIPv6(t *testing.T) {
	t.Helper()
	isTentative := func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 }
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		list, err := netlink.AddrList(nil, netlink.FAMILY_V6)
		check(t, err)
		if !slices.ContainsFunc(list, isTentative) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the addresses are still tentative: %v", list)
		}
	}
}
