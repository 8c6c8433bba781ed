package routing

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gke-metadata-emulator/internal/wellknown"
)

// The priorities of our rules: after the table local (0), before the rules of others.
const (
	nodePriority  = 16
	otherPriority = 17
)

// guard returns the rules that keep the node from forwarding what pods send to port 80 of
// the metadata addresses. Behind the node may be another metadata server, the node's own.
// A redirected connection never reaches these rules. What reaches them are packets that
// no socket of the node sent (forged packets, virtual machines), and every packet while
// the table of nftables is flushed. The node's own processes still reach the address. See
// rtnetlink(7), ip-rule(8).
func guard() []*netlink.Rule {
	var rules []*netlink.Rule
	for _, destination := range []struct {
		family int
		ip     net.IP
		bits   int
	}{
		{unix.AF_INET, net.ParseIP(wellknown.MetadataIPv4).To4(), 32},
		{unix.AF_INET6, net.ParseIP(wellknown.MetadataIPv6), 128},
	} {
		for _, priority := range []int{nodePriority, otherPriority} {
			rule := netlink.NewRule()
			rule.Family, rule.Priority = destination.family, priority
			rule.Dst = &net.IPNet{IP: destination.ip, Mask: net.CIDRMask(destination.bits, destination.bits)}
			rule.IPProto, rule.Dport = unix.IPPROTO_TCP, netlink.NewRulePortRange(wellknown.MetadataPort, wellknown.MetadataPort)
			if priority == nodePriority {
				rule.IifName, rule.Table = "lo", unix.RT_TABLE_MAIN // packets of the node's own processes
			} else {
				rule.Type = unix.RTN_PROHIBIT
			}
			rules = append(rules, rule)
		}
	}
	return rules
}

// installGuard adds the rules. It is no error if they exist already.
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

// removeGuard removes the rules. It is no error if they do not exist. The rule that lets
// the node's own processes pass is removed last.
func removeGuard() error {
	var errs []error
	for _, rule := range slices.Backward(guard()) {
		err := netlink.RuleDel(rule)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EAFNOSUPPORT) {
			errs = append(errs, fmt.Errorf("remove rule %d, which needs %s: %w", rule.Priority, capabilityNetAdmin, err))
		}
	}
	return errors.Join(errs...)
}
