package routing

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// checkInterval is how often the table is looked at, beside each time that the
	// kernel tells of a change.
	checkInterval = 30 * time.Second
	// checkPause is the least time between two looks: others write whole tables.
	checkPause = 50 * time.Millisecond
	// repairPause is the least time after a repair that failed.
	repairPause = time.Second

	capabilityNetAdmin = "the capability NET_ADMIN"
)

// NFTables translates the metadata address to the server's by a table of its own
// in the node's network. The table stays when the program ends: a pod is refused
// then, and reaches no other metadata server.
//
// It needs the capability NET_ADMIN.
type NFTables struct {
	Cgroup string         // the cgroup of all pods, for those of the node's network
	Target netip.AddrPort // where the server listens, as pods can reach it
	Log    *slog.Logger
	// Repaired counts, by result: repaired, failed.
	Repaired *prometheus.CounterVec
}

func (n *NFTables) String() string { return "nftables" }

// Install writes the table at one stroke, in the place of one that is there. It
// forgets what the node remembers of connections to the address that began before:
// their packets would not come by the table.
func (n *NFTables) Install() error {
	if err := n.LeftOut(); err != nil {
		n.Log.Warn("pods of the node's network cannot be told from the node's own processes, and are not redirected", "routing", "nftables", "reason", err)
	}
	if err := n.write(); err != nil {
		return modeError(ModeNFTables, "write the table "+tableName, capabilityNetAdmin, err)
	}
	family := netlink.InetFamily(unix.AF_INET6)
	if n.isIPv4() {
		family = unix.AF_INET
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, elsewhere{n}); err != nil {
		return modeError(ModeNFTables, "forget connections that went elsewhere", capabilityNetAdmin, err)
	}
	// For the time that somebody has flushed the table and it is not back.
	if err := installGuard(); err != nil {
		return modeError(ModeNFTables, "keep the node from forwarding", capabilityNetAdmin, err)
	}
	return nil
}

// elsewhere is the connections to the metadata address that do not go to the target.
type elsewhere struct{ n *NFTables }

// MatchConntrackFlow implements [netlink.CustomConntrackFilter].
func (e elsewhere) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	to, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	by, _ := netip.AddrFromSlice(flow.Reverse.SrcIP)
	return to.Unmap() == e.n.metadata() && flow.Forward.DstPort == 80 &&
		netip.AddrPortFrom(by.Unmap(), flow.Reverse.SrcPort) != netip.AddrPortFrom(e.n.Target.Addr().Unmap(), e.n.Target.Port())
}

func (n *NFTables) write() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: tableName, Family: n.family()}
	// Deleting what is not there is an error, so it is made first; all of it is one
	// transaction.
	c.AddTable(table)
	c.DelTable(table)
	c.AddTable(table)
	priority := beforeOthers
	for _, of := range n.chains() {
		made := c.AddChain(&nftables.Chain{Table: table, Name: of.name, Type: nftables.ChainTypeNAT, Hooknum: of.hook, Priority: &priority})
		for _, rule := range of.rules {
			c.AddRule(&nftables.Rule{Table: table, Chain: made, Exprs: rule, UserData: n.mark()})
		}
	}
	return c.Flush()
}

// mark says of a rule that it is ours, and where it leads.
func (n *NFTables) mark() []byte { return []byte(tableName + " to " + n.Target.String()) }

// intact says whether the table is as it was written.
func (n *NFTables) intact() (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, err
	}
	table := &nftables.Table{Name: tableName, Family: n.family()}
	for _, of := range n.chains() {
		rules, err := c.GetRules(table, &nftables.Chain{Table: table, Name: of.name})
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if len(rules) != len(of.rules) || slices.ContainsFunc(rules, func(r *nftables.Rule) bool { return string(r.UserData) != string(n.mark()) }) {
			return false, nil
		}
	}
	return true, nil
}

// Keep writes the table anew whenever somebody has flushed or changed it, until ctx
// ends. The kernel tells of each change; the table is looked at from time to time
// too, because it tells nobody who is too slow.
func (n *NFTables) Keep(ctx context.Context) error {
	events, err := nl.Subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return modeError(ModeNFTables, "be told of changes", capabilityNetAdmin, err)
	}
	changed, stopped := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(stopped)
		listen(ctx, events, changed)
	}()
	defer func() {
		<-stopped
		events.Close()
	}()
	for {
		pause := checkPause
		if err := n.repair(); err != nil {
			n.Repaired.WithLabelValues("failed").Inc()
			n.Log.Error("the table of nftables cannot be repaired, it is tried again", "error", err)
			pause = repairPause
		}
		if !sleep(ctx, jitter(pause)) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(jitter(checkInterval)):
		}
	}
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
	n.Log.Warn("somebody had changed or removed the table of nftables, it is back", "table", tableName)
	return nil
}

// listen reads what the kernel tells, until ctx ends; what it says is read by intact.
func listen(ctx context.Context, events *nl.NetlinkSocket, changed chan<- struct{}) {
	// A read has no context: it ends after this.
	_ = events.SetReceiveTimeout(&unix.Timeval{Usec: 200_000})
	for ctx.Err() == nil {
		_, _, err := events.Receive()
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case err != nil && !errors.Is(err, unix.ENOBUFS): // that means that some were missed
			if !sleep(ctx, jitter(repairPause)) {
				return
			}
		}
		select {
		case changed <- struct{}{}:
		default: // a look is due already
		}
	}
}

// Remove deletes the table of either family; it is no error that it is not there.
func (n *NFTables) Remove() error {
	if err := removeGuard(); err != nil {
		return modeError(ModeNFTables, "remove the rules of routing", capabilityNetAdmin, err)
	}
	err := n.remove()
	if err != nil && !errors.Is(err, unix.EPERM) && n.Probe() != nil {
		return nil // a kernel without nf_tables has no table
	}
	if err != nil {
		return modeError(ModeNFTables, "remove the table "+tableName, capabilityNetAdmin, err)
	}
	return nil
}

func (n *NFTables) remove() error {
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

// Probe says whether the kernel has what is needed, and changes nothing.
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

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// jitter is from d to a half more, so that a cluster's nodes do not act as one.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/2+1) }
