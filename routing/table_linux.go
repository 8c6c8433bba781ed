package routing

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is the name of our table, which nobody else writes to.
const tableName = "gke-metadata-emulator"

// beforeOthers is before the usual priority of destination NAT, -100, which
// kube-proxy and port mappings use: the first that translates a connection wins.
const beforeOthers = nftables.ChainPriority(-110)

// deepest is how deep the cgroup of all pods is looked for below the root of the
// hierarchy: a node that is a container, as kind's, has it at 3 or 4.
const deepest = 12

// chain is one of our table, with its rules.
type chain struct {
	name  string
	hook  *nftables.ChainHook
	rules [][]expr.Any
}

// chains are what the table should hold: a rule for what pods with a network of
// their own send, and those for pods of the node's network, where their cgroup can be
// told by the kernel: the node's own processes are left alone.
func (n *NFTables) chains() []chain {
	all := []chain{{"prerouting", nftables.ChainHookPrerouting, [][]expr.Any{slices.Concat(n.toMetadata(), n.translate())}}}
	group, err := n.cgroup()
	if err != nil {
		return all
	}
	output := chain{name: "output", hook: nftables.ChainHookOutput}
	// How deep the cgroup is cannot be seen where the root is not. No other has its
	// number: one rule at most matches.
	for level := range uint32(deepest) {
		output.rules = append(output.rules, slices.Concat(n.toMetadata(), []expr.Any{
			&expr.Socket{Key: expr.SocketKeyCgroupv2, Level: level + 1, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint64(nil, group)},
		}, n.translate()))
	}
	return append(all, output)
}

// LeftOut says why pods of the node's network are not redirected; nil where they are.
func (n *NFTables) LeftOut() error {
	_, err := n.cgroup()
	return err
}

func (n *NFTables) isIPv4() bool { return n.Target.Addr().Unmap().Is4() }

func (n *NFTables) family() nftables.TableFamily {
	if n.isIPv4() {
		return nftables.TableFamilyIPv4
	}
	return nftables.TableFamilyIPv6
}

// metadata is the address of the family of our table.
func (n *NFTables) metadata() netip.Addr {
	if n.isIPv4() {
		return netip.AddrFrom4([4]byte{169, 254, 169, 254})
	}
	return netip.MustParseAddr("fd20:ce::254")
}

// toMetadata matches TCP to port 80 of the metadata address.
func (n *NFTables) toMetadata() []expr.Any {
	offset, length := uint32(16), uint32(4) // of the destination in the header: ip(7), ipv6(7)
	if !n.isIPv4() {
		offset, length = 24, 16
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: n.metadata().AsSlice()},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0, 80}},
	}
}

// translate counts, and sends to the target.
func (n *NFTables) translate() []expr.Any {
	family := uint32(unix.NFPROTO_IPV6)
	if n.isIPv4() {
		family = unix.NFPROTO_IPV4
	}
	return []expr.Any{
		&expr.Counter{},
		&expr.Immediate{Register: 1, Data: n.Target.Addr().Unmap().AsSlice()},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, n.Target.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: 1, RegProtoMin: 2},
	}
}

// cgroup is the number of the cgroup of all pods. In a cgroup namespace of one's own
// (cgroup_namespaces(7)) nft_socket of the kernel counts from its root, which is
// below that cgroup.
func (n *NFTables) cgroup() (number uint64, err error) {
	if n.Cgroup == "" {
		return 0, errors.New("the cgroup of all pods is not known")
	}
	const initial = 0xEFFFFFFB // PROC_CGROUP_INIT_INO of the kernel's include/linux/proc_ns.h
	var own, folder unix.Stat_t
	if err := unix.Stat("/proc/self/ns/cgroup", &own); err != nil {
		return 0, err
	}
	if own.Ino != initial {
		return 0, errors.New("this process has a cgroup namespace of its own")
	}
	var fs unix.Statfs_t
	if err := errors.Join(unix.Stat(n.Cgroup, &folder), unix.Statfs(n.Cgroup, &fs)); err != nil {
		return 0, fmt.Errorf("%s: %w", n.Cgroup, err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return 0, fmt.Errorf("%s is not of cgroup v2", n.Cgroup)
	}
	return folder.Ino, nil
}
