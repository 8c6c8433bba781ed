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

// newTable is a node as in the tests of eBPF, with a table in place of programs.
func newTable(t *testing.T, target string) (*node, *NFTables) {
	t.Helper()
	n := &node{t: t, root: podtest.NewCgroup(t), network: podtest.NewNetwork(t)}
	n.pod = n.root.Pod(t, "burstable", podUID)
	n.network.Address(t, "192.0.2.1/32")
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

// counts are the packets that the rules of the table have counted, by chain.
func counts(t *testing.T, n *NFTables) map[string]uint64 {
	t.Helper()
	c, err := nftables.New()
	check(t, err)
	of := map[string]uint64{}
	for _, chain := range n.chains() {
		rules, err := c.GetRules(&nftables.Table{Name: tableName, Family: n.family()}, &nftables.Chain{Name: chain.name})
		check(t, err)
		for _, rule := range rules {
			for _, e := range rule.Exprs {
				if counter, ok := e.(*expr.Counter); ok {
					of[chain.name] += counter.Packets
				}
			}
		}
	}
	return of
}

func TestNFTablesRedirectsPodsAndNotProcessesOfTheNode(t *testing.T) {
	n, table := newTable(t, "192.0.2.1:8987")
	n.network.Address(t, "169.254.169.254/32")
	n.server("169.254.169.254:80", "cloud")
	n.server("169.254.169.254:8080", "other-port")
	n.server("192.0.2.1:8987", "ours")
	hostNetwork, daemon := n.pod.Start(t), n.root.Below(t, "system.slice/kubelet.service").Start(t)
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
	// The end of a connection that was forgotten is counted too, as a new one.
	if got := counts(t, table); got["prerouting"] < 2 || got["output"] != 2 {
		t.Errorf("the rules counted %v connections", got)
	}
}

// The node sees a part of the hierarchy only, as one of kind's: what is above is not to
// be known.
func TestNFTablesRedirectsPodsOfANodeThatIsAContainer(t *testing.T) {
	n, table := newTable(t, "192.0.2.1:8987")
	n.root = n.root.Below(t, "docker/node-1/kubelet.slice")
	table.Cgroup = filepath.Join(string(n.root), "kubepods")
	n.network.Address(t, "169.254.169.254/32")
	n.server("169.254.169.254:80", "cloud")
	n.server("192.0.2.1:8987", "ours")
	hostNetwork, daemon := n.root.Pod(t, "burstable", podUID).Start(t), n.root.Below(t, "kubelet").Start(t)
	check(t, table.Install())
	n.wantReaches(hostNetwork, "4", "169.254.169.254:80", "ours")
	n.wantReaches(daemon, "4", "169.254.169.254:80", "cloud")
}

// A connection that began before the table would go on to the other server.
func TestConnectionsThatWentElsewhereAreForgotten(t *testing.T) {
	n, table := newTable(t, "192.0.2.1:8987")
	n.network.Address(t, "169.254.169.254/32")
	n.server("169.254.169.254:80", "cloud")
	n.server("192.0.2.1:8987", "ours")
	hold, err := nftables.New()
	check(t, err)
	other := hold.AddTable(&nftables.Table{Name: "other", Family: nftables.TableFamilyIPv4})
	chain := hold.AddChain(&nftables.Chain{Table: other, Name: "any", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityFilter})
	// Conntrack works from the first rule that asks it.
	hold.AddRule(&nftables.Rule{Table: other, Chain: chain, Exprs: []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}}})
	check(t, hold.Flush())
	n.network.NewPod(t, "pod0", "10.244.0.1", "10.244.0.7").Enter(t)
	pod := n.pod.Start(t)
	n.network.Enter(t)
	n.wantReaches(pod, "4", "169.254.169.254:80", "cloud")
	if n := remembered(t, "169.254.169.254"); n == 0 {
		t.Fatal("conntrack knows no connection, so that the test would prove nothing")
	}
	check(t, table.Install())
	if n := remembered(t, "169.254.169.254"); n != 0 {
		t.Errorf("%d connections that went elsewhere are remembered", n)
	}
	n.wantReaches(pod, "4", "169.254.169.254:80", "ours")
	before := remembered(t, "169.254.169.254")
	check(t, table.Install()) // again, as a new instance does
	if after := remembered(t, "169.254.169.254"); after != before || before == 0 {
		t.Errorf("of %d connections to the target %d are remembered", before, after)
	}
}

func remembered(t *testing.T, ip string) int {
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

// ruleset is all tables, chains and rules of the network.
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

func TestNFTablesInstallAndRemoveMayBeRepeatedAndLeaveNothing(t *testing.T) {
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

// keep runs the table's owner in the test's network until the test ends.
func keep(t *testing.T, n *node, table *NFTables) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with its network
		n.network.Enter(t)
		ended <- table.Keep(ctx)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	// It has looked once, and waits.
	time.Sleep(200 * time.Millisecond)
}

func TestTableThatSomebodyFlushedOrChangedIsRepaired(t *testing.T) {
	ours := func(n *NFTables) *nftables.Table { return &nftables.Table{Name: tableName, Family: n.family()} }
	n, table := newTable(t, "192.0.2.1:8987")
	n.network.Address(t, "169.254.169.254/32")
	n.server("192.0.2.1:8987", "ours")
	check(t, table.Install())
	keep(t, n, table)
	pod := n.pod.Start(t)
	repairs := 0
	for _, of := range []struct {
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
		of.do(c)
		start := time.Now()
		check(t, c.Flush())
		repairs++
		for testutil.ToFloat64(table.Repaired.WithLabelValues("repaired")) < float64(repairs) {
			if time.Since(start) > 5*time.Second {
				t.Fatalf("%s: it is not repaired", of.name)
			}
			time.Sleep(time.Millisecond)
		}
		t.Logf("%s: repaired after %s", of.name, time.Since(start).Round(100*time.Microsecond))
		if ok, err := table.intact(); !ok || err != nil {
			t.Errorf("%s: intact %t (%v)", of.name, ok, err)
		}
		n.wantReaches(pod, "4", "169.254.169.254:80", "ours")
		time.Sleep(200 * time.Millisecond) // longer than the pause between two looks
	}
	if got := testutil.ToFloat64(table.Repaired.WithLabelValues("repaired")); int(got) != repairs {
		t.Errorf("%v repairs, want %d: it repairs its own", got, repairs)
	}
}

func TestWithoutNetAdminNFTablesNamesIt(t *testing.T) {
	_, table := newTable(t, "192.0.2.1:8987")
	dropped(t, unix.CAP_NET_ADMIN)
	for _, err := range []error{table.Install(), table.Remove(), table.Probe()} {
		if err == nil || !strings.Contains(err.Error(), "the capability NET_ADMIN") || !errors.Is(err, os.ErrPermission) {
			t.Errorf("error %v", err)
		}
	}
}

func TestNFTablesNeedsNoOtherCapability(t *testing.T) {
	_, table := newTable(t, "192.0.2.1:8987")
	dropped(t, allBut(unix.CAP_NET_ADMIN)...)
	check(t, errors.Join(table.Probe(), table.Install(), table.Remove()))
}

func TestIPv6TargetHasATableOfIPv6(t *testing.T) {
	n, table := newTable(t, "[2001:db8::1]:8987")
	n.network.Address(t, "2001:db8::1/128")
	n.network.Address(t, "fd20:ce::254/128")
	time.Sleep(10 * time.Millisecond)
	n.server("[2001:db8::1]:8987", "ours")
	check(t, table.Install())
	n.wantReaches(n.pod.Start(t), "6", "[fd20:ce::254]:80", "ours")
	check(t, table.Remove())
}
