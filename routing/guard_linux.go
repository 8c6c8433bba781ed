package routing

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The priorities of our rules, after the local table's (0) and before others'.
const (
	ownPriority    = 16
	othersPriority = 17
)

// guard keeps the node from forwarding what pods send to port 80 of the metadata
// addresses. What is redirected never comes that far; what a program at sockets does
// not see would (packets that a container makes up, virtual machines), and what a
// table would redirect that somebody has flushed. Behind the node may be another
// metadata server, the node's own. The node's own processes still reach it. See
// rtnetlink(7), ip-rule(8).
func guard() []*netlink.Rule {
	var rules []*netlink.Rule
	for _, of := range []struct {
		family int
		to     *net.IPNet
	}{
		{unix.AF_INET, &net.IPNet{IP: net.IPv4(169, 254, 169, 254).To4(), Mask: net.CIDRMask(32, 32)}},
		{unix.AF_INET6, &net.IPNet{IP: net.ParseIP("fd20:ce::254"), Mask: net.CIDRMask(128, 128)}},
	} {
		for _, priority := range []int{ownPriority, othersPriority} {
			rule := netlink.NewRule()
			rule.Family, rule.Dst, rule.Priority = of.family, of.to, priority
			rule.IPProto, rule.Dport = unix.IPPROTO_TCP, netlink.NewRulePortRange(80, 80)
			if priority == ownPriority {
				rule.IifName, rule.Table = "lo", unix.RT_TABLE_MAIN // what the node sends itself
			} else {
				rule.Type = unix.RTN_PROHIBIT
			}
			rules = append(rules, rule)
		}
	}
	return rules
}

// installGuard adds the rules; it is no error that they are there.
func installGuard() error {
	for _, rule := range guard() {
		err := netlink.RuleAdd(rule)
		if errors.Is(err, unix.EAFNOSUPPORT) && rule.Family == unix.AF_INET6 {
			continue // a node without IPv6
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("rule %d: %w", rule.Priority, err)
		}
	}
	return nil
}

// removeGuard takes them away; it is no error that they are not there. The one that
// lets the node's own pass goes last.
func removeGuard() error {
	rules := guard()
	var errs []error
	for i := len(rules) - 1; i >= 0; i-- {
		err := netlink.RuleDel(rules[i])
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EAFNOSUPPORT) {
			errs = append(errs, fmt.Errorf("rule %d: %w", rules[i].Priority, err))
		}
	}
	return errors.Join(errs...)
}
