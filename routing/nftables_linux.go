package routing

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/wait"

	"gke-metadata-emulator/internal/wellknown"
)

const (
	// checkInterval is the time between two checks of the table without a notification.
	checkInterval = 30 * time.Second
	// checkPause is the shortest time between two checks: a change of a whole table
	// sends many notifications.
	checkPause = 50 * time.Millisecond
	// repairPause is the delay after the first failure, of a repair or of a read.
	repairPause = time.Second
	// jitter spreads every delay, by this fraction of it, over the nodes of a cluster.
	jitter = 0.5
)

// NFTables translates the metadata address to the server's by a table of its own in the
// node's network. The table stays when this process ends. From then on a pod's connection
// is refused, and reaches no other metadata server.
//
// NFTables needs the capability NET_ADMIN.
type NFTables struct {
	Cgroup string         // the cgroup of all pods, to find the pods of the node's network
	Target netip.AddrPort // the server's address and port, as pods can reach it
	Log    *slog.Logger
	// Repaired counts repairs, by result: repaired, failed.
	Repaired *prometheus.CounterVec
}

func (n *NFTables) String() string { return ModeNFTables }

// Install replaces the table in one transaction. It deletes the node's conntrack entries
// of connections that go to another server: their packets would not pass the table.
func (n *NFTables) Install() error {
	if err := n.HostNetworkExcluded(); err != nil {
		n.Log.Warn("the kernel cannot distinguish pods of the node's network from the node's own processes; these pods are not redirected", "routing", ModeNFTables, "reason", err)
	}
	if err := n.write(); err != nil {
		return modeError(ModeNFTables, "write the table "+tableName, capabilityNetAdmin, err)
	}
	family := netlink.InetFamily(unix.AF_INET6)
	if n.isIPv4() {
		family = unix.AF_INET
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, otherServers{n}); err != nil {
		return modeError(ModeNFTables, "delete the conntrack entries of connections to other servers", capabilityNetAdmin, err)
	}
	// The guard works while the table is flushed and not repaired yet.
	if err := installGuard(); err != nil {
		return modeError(ModeNFTables, "keep the node from forwarding", capabilityNetAdmin, err)
	}
	return nil
}

// otherServers matches connections to the metadata address that do not go to the target.
type otherServers struct{ n *NFTables }

// MatchConntrackFlow implements [netlink.CustomConntrackFilter].
func (o otherServers) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	destination, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	server, _ := netip.AddrFromSlice(flow.Reverse.SrcIP)
	return destination.Unmap() == o.n.metadata() && flow.Forward.DstPort == wellknown.MetadataPort &&
		netip.AddrPortFrom(server.Unmap(), flow.Reverse.SrcPort) != netip.AddrPortFrom(o.n.Target.Addr().Unmap(), o.n.Target.Port())
}

func (n *NFTables) write() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: tableName, Family: n.family()}
	// All of this is one transaction. The table is added first, because the deletion of a
	// table that does not exist is an error.
	c.AddTable(table)
	c.DelTable(table)
	c.AddTable(table)
	priority := beforeOthers
	for _, chain := range n.chains() {
		added := c.AddChain(&nftables.Chain{Table: table, Name: chain.name, Type: nftables.ChainTypeNAT, Hooknum: chain.hook, Priority: &priority})
		for _, rule := range chain.rules {
			c.AddRule(&nftables.Rule{Table: table, Chain: added, Exprs: rule, UserData: n.mark()})
		}
	}
	return c.Flush()
}

// mark is the user data of our rules, by which they are recognized. It has the target.
func (n *NFTables) mark() []byte { return []byte(tableName + " to " + n.Target.String()) }

// intact reports whether the table is as it was written.
func (n *NFTables) intact() (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, err
	}
	table := &nftables.Table{Name: tableName, Family: n.family()}
	for _, chain := range n.chains() {
		rules, err := c.GetRules(table, &nftables.Chain{Table: table, Name: chain.name})
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if len(rules) != len(chain.rules) || slices.ContainsFunc(rules, func(r *nftables.Rule) bool { return string(r.UserData) != string(n.mark()) }) {
			return false, nil
		}
	}
	return true, nil
}

// Keep repairs the table after another program has flushed or changed it, until ctx ends.
// The kernel notifies of each change. The table is also checked periodically, because a
// notification is lost if the reader is too slow.
func (n *NFTables) Keep(ctx context.Context) error {
	notifications, err := nl.Subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return modeError(ModeNFTables, "subscribe to changes", capabilityNetAdmin, err)
	}
	changed, stopped := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(stopped)
		listen(ctx, notifications, changed)
	}()
	defer func() {
		<-stopped
		notifications.Close()
	}()
	backoff := repairBackoff()
	for {
		if err := n.repair(); err != nil {
			n.Repaired.WithLabelValues("failed").Inc()
			n.Log.Error("the table of nftables cannot be repaired; the repair is retried", "error", err)
			if !sleep(ctx, backoff.Step()) {
				return nil
			}
			continue
		}
		backoff = repairBackoff()
		if !sleep(ctx, wait.Jitter(checkPause, jitter)) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(wait.Jitter(checkInterval, jitter)):
		}
	}
}

func repairBackoff() wait.Backoff {
	return wait.Backoff{Duration: repairPause, Factor: 2, Jitter: jitter, Steps: math.MaxInt32, Cap: checkInterval}
}

func (n *NFTables) repair() error {
	ok, err := n.intact()
	if ok || err != nil {
		return err
	}
	if err := n.Install(); err != nil {
		return err
	}
	n.Repaired.WithLabelValues("repaired").Inc()
	n.Log.Warn("another program had changed or removed the table of nftables; it is repaired", "table", tableName)
	return nil
}

// listen reads notifications until ctx ends. It ignores their content: repair reads the
// table itself.
func listen(ctx context.Context, notifications *nl.NetlinkSocket, changed chan<- struct{}) {
	// Receive has no context, so it returns after this time.
	_ = notifications.SetReceiveTimeout(&unix.Timeval{Usec: 200_000})
	for ctx.Err() == nil {
		_, _, err := notifications.Receive()
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case err != nil && !errors.Is(err, unix.ENOBUFS): // ENOBUFS: notifications were lost
			if !sleep(ctx, wait.Jitter(repairPause, jitter)) {
				return
			}
		}
		select {
		case changed <- struct{}{}:
		default: // a check is due already
		}
	}
}

// Remove deletes the tables of both families. It is no error if they do not exist. The
// guard stays: the mode ebpf shares it.
func (n *NFTables) Remove() error {
	err := n.deleteTables()
	if err != nil && !errors.Is(err, unix.EPERM) && n.Probe() != nil {
		return nil // a kernel without nf_tables has no table
	}
	if err != nil {
		return modeError(ModeNFTables, "remove the table "+tableName, capabilityNetAdmin, err)
	}
	return nil
}

func (n *NFTables) deleteTables() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	tables, err := c.ListTables()
	if err != nil {
		return err
	}
	for _, table := range tables {
		if table.Name == tableName {
			c.DelTable(table)
		}
	}
	return c.Flush()
}

// Probe returns an error if the kernel lacks or does not permit nf_tables. It changes
// nothing.
func (n *NFTables) Probe() error {
	c, err := nftables.New()
	if err == nil {
		_, err = c.ListTables()
	}
	if err != nil {
		return modeError(ModeNFTables, "list tables", capabilityNetAdmin, err)
	}
	return nil
}

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
