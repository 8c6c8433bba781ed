package attest

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"gke-metadata-emulator/identity"
)

// conntrack reads the kernel's entries of connections in the network namespace in which it
// was opened.
type conntrack struct{ socket *nl.SocketHandle }

func openConntrack() (conntrack, error) {
	socket, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return conntrack{}, fmt.Errorf("conntrack: %w", err)
	}
	// The kernel answers at once. The timeout bounds the wait if it does not.
	if err := socket.SetReceiveTimeout(&unix.Timeval{Sec: 1}); err != nil {
		socket.Close()
		return conntrack{}, fmt.Errorf("conntrack: %w", err)
	}
	return conntrack{&nl.SocketHandle{Socket: socket}}, nil
}

func (c conntrack) close() { c.socket.Close() }

// originalTuple returns a connection as it was before the kernel translated its addresses.
// Usually only the server's end differs. The client's port differs too if the translated
// connection would equal one that still has an entry, for example of an earlier pod with
// the same address. It needs the capability NET_ADMIN. See struct nf_conntrack_tuple, and
// ctnetlink's attributes in the kernel's
// include/uapi/linux/netfilter/nfnetlink_conntrack.h.
func (c conntrack) originalTuple(seen identity.Connection) (original Tuple, found bool) {
	client, server := seen.Remote.Addr().Unmap(), seen.Local.Addr().Unmap()
	family, from, to := uint8(unix.AF_INET), nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
	if client.Is6() {
		family, from, to = unix.AF_INET6, nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_GET, unix.NLM_F_ACK) // its single answer has the flag of a multipart message
	request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: c.socket}
	request.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	reply := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_REPLY, nil) // the direction of the server's packets
	addresses := reply.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
	addresses.AddRtAttr(from, server.AsSlice())
	addresses.AddRtAttr(to, client.AsSlice())
	ports := reply.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
	ports.AddRtAttr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_TCP})
	ports.AddRtAttr(nl.CTA_PROTO_SRC_PORT, nl.BEUint16Attr(seen.Local.Port()))
	ports.AddRtAttr(nl.CTA_PROTO_DST_PORT, nl.BEUint16Attr(seen.Remote.Port()))
	request.AddData(reply)
	answers, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil || len(answers) != 1 || len(answers[0]) < nl.SizeofNfgenmsg {
		return Tuple{}, false // no entry or no permission: treated as not translated
	}
	attributes := attribute(answers[0][nl.SizeofNfgenmsg:], nl.CTA_TUPLE_ORIG)
	end := func(address, port uint16) (netip.AddrPort, bool) {
		ip, ok := netip.AddrFromSlice(attribute(attributes, nl.CTA_TUPLE_IP, address))
		number := attribute(attributes, nl.CTA_TUPLE_PROTO, port)
		if !ok || len(number) != 2 {
			return netip.AddrPort{}, false
		}
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(number)), true
	}
	var ok bool
	original.Client, found = end(uint16(from), nl.CTA_PROTO_SRC_PORT)
	original.Server, ok = end(uint16(to), nl.CTA_PROTO_DST_PORT)
	return original, found && ok
}

// attribute returns the content of a nested attribute; nil if it does not exist.
func attribute(b []byte, path ...uint16) []byte {
	for _, kind := range path {
		attributes, err := nl.ParseRouteAttr(b)
		if err != nil {
			return nil
		}
		b = nil
		for _, a := range attributes {
			if a.Attr.Type&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == kind {
				b = a.Value
			}
		}
	}
	return b
}

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, from the kernel's
// include/uapi/linux/netfilter_ipv4.h and netfilter_ipv6/ip6_tables.h.
const soOriginalDst = 80

// originalDestination returns the destination of the client's first packet, by conntrack.
// It is not found if conntrack has no entry of this connection.
func originalDestination(c net.Conn, client netip.Addr) (original netip.AddrPort, found bool) {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return original, false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return original, false
	}
	_ = raw.Control(func(fd uintptr) { original, found = getOriginalDst(int(fd), client.Unmap().Is4()) })
	return original, found
}

// getOriginalDst reads a socket address by functions of x/sys for options of the same
// size.
func getOriginalDst(fd int, v4 bool) (netip.AddrPort, bool) {
	if v4 {
		a, err := unix.GetsockoptIPv6Mreq(fd, unix.IPPROTO_IP, soOriginalDst) // as large as struct sockaddr_in
		if err != nil {
			return netip.AddrPort{}, false
		}
		b := a.Multiaddr
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3])), true
	}
	a, err := unix.GetsockoptIPv6MTUInfo(fd, unix.IPPROTO_IPV6, soOriginalDst) // begins with struct sockaddr_in6
	if err != nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr.Addr), a.Addr.Port<<8|a.Addr.Port>>8), true
}
