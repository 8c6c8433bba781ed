package attest

import (
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, from the kernel's
// include/uapi/linux/netfilter_ipv4.h and netfilter_ipv6/ip6_tables.h.
const soOriginalDst = 80

// originalDestination is where the client sent its first packet, by conntrack; not
// found where that is not in use for this connection.
func originalDestination(c net.Conn, client netip.Addr) (original netip.AddrPort, found bool) {
	of, ok := c.(syscall.Conn)
	if !ok {
		return original, false
	}
	raw, err := of.SyscallConn()
	if err != nil {
		return original, false
	}
	_ = raw.Control(func(fd uintptr) { original, found = conntracked(int(fd), client.Unmap().Is4()) })
	return original, found
}

// conntracked reads a socket address by calls of x/sys that return as many bytes.
func conntracked(fd int, v4 bool) (netip.AddrPort, bool) {
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
