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

	"gke-metadata-emulator/internal/wellknown"
)

// tableName is the name of our table. No other program has a reason to write to it.
const tableName = "gke-metadata-emulator"

// beforeOthers comes before -100, the usual priority of destination NAT, which kube-proxy
// and port mappings use: the first chain that translates a connection wins.
const beforeOthers = nftables.ChainPriority(-110)

// maxCgroupLevel is how many levels below the root the cgroup of all pods can be. It is at
// level 3 or 4 on a node that is a container, for example one of kind.
const maxCgroupLevel = 12

// chain is a chain of our table with its rules.
type chain struct {
	name  string
	hook  *nftables.ChainHook
	rules [][]expr.Any
}

// chains returns the content of the table. The chain prerouting redirects pods with a
// network of their own. The chain output redirects pods of the node's network by their
// cgroup, if the kernel can match it; other processes of the node are not redirected.
func (n *NFTables) chains() []chain {
	all := []chain{{"prerouting", nftables.ChainHookPrerouting, [][]expr.Any{slices.Concat(n.toMetadata(), n.translate())}}}
	cgroup, err := n.cgroup()
	if err != nil {
		return all
	}
	output := chain{name: "output", hook: nftables.ChainHookOutput}
	// The level of the cgroup is unknown in a container that does not see the root. No
	// other cgroup has its number, so at most one of these rules matches.
	for level := range uint32(maxCgroupLevel) {
		output.rules = append(output.rules, slices.Concat(n.toMetadata(), []expr.Any{
			&expr.Socket{Key: expr.SocketKeyCgroupv2, Level: level + 1, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint64(nil, cgroup)},
		}, n.translate()))
	}
	return append(all, output)
}

// HostNetworkExcluded returns the reason why pods of the node's network are not
// redirected; nil if they are.
func (n *NFTables) HostNetworkExcluded() error {
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

// metadata returns the metadata address of the family of our table.
func (n *NFTables) metadata() netip.Addr {
	if n.isIPv4() {
		return netip.MustParseAddr(wellknown.MetadataIPv4)
	}
	return netip.MustParseAddr(wellknown.MetadataIPv6)
}

// toMetadata matches TCP to the metadata address and port.
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
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, wellknown.MetadataPort)},
	}
}

// translate counts a connection and sends it to the target.
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

// cgroup returns the number of the cgroup of all pods. In another than the initial cgroup
// namespace (cgroup_namespaces(7)) the kernel's nft_socket counts levels from the root of
// the namespace, which is below that cgroup, so no rule could match.
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
		return 0, fmt.Errorf("%s is not a folder of cgroup v2", n.Cgroup)
	}
	return folder.Ino, nil
}
