package routing

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is the name of our table, which nobody else writes to.
const tableName = "gke-metadata-emulator"

// beforeOthers is before the usual priority of destination NAT, -100, which
// kube-proxy and port mappings use: the first that translates a connection wins.
const beforeOthers = nftables.ChainPriority(-110)

// chain is one of our table, with its one rule.
type chain struct {
	name string
	hook *nftables.ChainHook
	rule []expr.Any
}

// chains are what the table should hold: a rule for what pods with a network of
// their own send, and one for pods of the node's network, where their cgroup can be
// told by the kernel: the node's own processes are left alone.
func (n *NFTables) chains() []chain {
	dnat := n.translate()
	all := []chain{{"prerouting", nftables.ChainHookPrerouting, append(n.toMetadata(), dnat...)}}
	if group, level, err := n.cgroup(); err == nil {
		all = append(all, chain{"output", nftables.ChainHookOutput, append(append(n.toMetadata(),
			&expr.Socket{Key: expr.SocketKeyCgroupv2, Level: level, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint64(nil, group)},
		), dnat...)})
	}
	return all
}

// LeftOut says why pods of the node's network are not redirected; nil where they are.
func (n *NFTables) LeftOut() error {
	_, _, err := n.cgroup()
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

// cgroup is the number of the cgroup of all pods, and how deep it is below the root
// of the hierarchy, as nft_socket of the kernel counts. In a cgroup namespace of
// one's own (cgroup_namespaces(7)) the kernel counts from there, and cannot be told.
func (n *NFTables) cgroup() (number uint64, level uint32, err error) {
	if n.Cgroup == "" {
		return 0, 0, errors.New("the cgroup of all pods is not known")
	}
	const initial = 0xEFFFFFFB // PROC_CGROUP_INIT_INO of the kernel's include/linux/proc_ns.h
	var own unix.Stat_t
	if err := unix.Stat("/proc/self/ns/cgroup", &own); err != nil {
		return 0, 0, err
	}
	if own.Ino != initial {
		return 0, 0, errors.New("this process has a cgroup namespace of its own")
	}
	const root = 1 // the inode of a hierarchy's root
	for path := filepath.Clean(n.Cgroup); ; path = filepath.Dir(path) {
		var folder unix.Stat_t
		if err := unix.Stat(path, &folder); err != nil {
			return 0, 0, err
		}
		var fs unix.Statfs_t
		if err := unix.Statfs(path, &fs); err != nil {
			return 0, 0, err
		}
		if fs.Type != unix.CGROUP2_SUPER_MAGIC {
			return 0, 0, fmt.Errorf("the root of the cgroup hierarchy of %s cannot be seen: %w", n.Cgroup, os.ErrNotExist)
		}
		if number == 0 {
			number = folder.Ino
		}
		if folder.Ino == root {
			return number, level, nil
		}
		level++
	}
}
