package attest

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"gke-metadata-emulator/identity"
)

// conntrack asks what the kernel remembers of connections in the network namespace that
// it was opened in.
type conntrack struct{ socket *nl.SocketHandle }

func openConntrack() (conntrack, error) {
	socket, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return conntrack{}, fmt.Errorf("conntrack: %w", err)
	}
	// The kernel answers at once; this is for the case that it does not.
	if err := socket.SetReceiveTimeout(&unix.Timeval{Sec: 1}); err != nil {
		socket.Close()
		return conntrack{}, fmt.Errorf("conntrack: %w", err)
	}
	return conntrack{&nl.SocketHandle{Socket: socket}}, nil
}

func (c conntrack) close() { c.socket.Close() }

// before is a connection as it was before the kernel translated its
// addresses, by conntrack. Usually only the server's end is another then; but where the
// translated connection would be like one that the kernel still remembers, as of a pod
// that had the address before, the client gets another port, too. It needs the
// capability NET_ADMIN. See struct nf_conntrack_tuple, and ctnetlink's attributes in the
// kernel's include/uapi/linux/netfilter/nfnetlink_conntrack.h.
func (c conntrack) before(seen identity.Connection) (before Tuple, found bool) {
	client, server := seen.Remote.Addr().Unmap(), seen.Local.Addr().Unmap()
	family, from, to := uint8(unix.AF_INET), nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
	if client.Is6() {
		family, from, to = unix.AF_INET6, nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_GET, unix.NLM_F_ACK) // its one answer says that more follow
	request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: c.socket}
	request.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	reply := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_REPLY, nil) // as the server's packets are
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
		return Tuple{}, false // nothing is remembered, or nobody may ask: as if there were no translation
	}
	original := attribute(answers[0][nl.SizeofNfgenmsg:], nl.CTA_TUPLE_ORIG)
	end := func(address, port uint16) (netip.AddrPort, bool) {
		ip, ok := netip.AddrFromSlice(attribute(original, nl.CTA_TUPLE_IP, address))
		number := attribute(original, nl.CTA_TUPLE_PROTO, port)
		if !ok || len(number) != 2 {
			return netip.AddrPort{}, false
		}
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(number)), true
	}
	var ok bool
	before.Client, found = end(uint16(from), nl.CTA_PROTO_SRC_PORT)
	before.Server, ok = end(uint16(to), nl.CTA_PROTO_DST_PORT)
	return before, found && ok
}

// attribute is the content of a nested one; nil where there is none.
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
