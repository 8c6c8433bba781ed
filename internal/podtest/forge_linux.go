package podtest

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// forge opens a TCP connection with forged packets, from an address that is not in
// this network, as a container with CAP_NET_RAW can. It does not use the kernel's TCP:
// it reads the answers from the interface.
func forge(source, destination string) (string, error) {
	client, err := netip.ParseAddrPort(source)
	if err != nil {
		return "", err
	}
	server, err := netip.ParseAddrPort(destination)
	if err != nil {
		return "", err
	}
	receive, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(unix.ETH_P_IP>>8|unix.ETH_P_IP<<8&0xff00))
	if err != nil {
		return "", err
	}
	defer unix.Close(receive)
	if err := unix.SetsockoptTimeval(receive, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return "", err
	}
	raw, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		return "", err
	}
	defer unix.Close(raw)
	const syn, ack = 0x02, 0x10
	send := func(seq, acked uint32, flags byte) error {
		return unix.Sendto(raw, segment(client, server, seq, acked, flags), 0, &unix.SockaddrInet4{Addr: server.Addr().As4()})
	}
	if err := send(1000, 0, syn); err != nil {
		return "", err
	}
	packet := make([]byte, 1500)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		n, _, err := unix.Recvfrom(receive, packet, 0)
		if err != nil || n < 40 || packet[9] != unix.IPPROTO_TCP {
			continue
		}
		tcp := packet[int(packet[0]&0xf)*4 : n]
		if binary.BigEndian.Uint16(tcp[2:]) == client.Port() && tcp[13] == syn|ack {
			return "ok", send(1001, binary.BigEndian.Uint32(tcp[4:])+1, ack)
		}
	}
	return "", errors.New("there is no answer from the server")
}

// segment returns an IPv4 packet with a TCP segment without data: RFC 9293, section
// 3.1. The kernel sets the checksum of the IP header.
func segment(client, server netip.AddrPort, seq, ack uint32, flags byte) []byte {
	b := make([]byte, 40)
	source, destination := client.Addr().As4(), server.Addr().As4()
	b[0], b[3], b[8], b[9] = 0x45, 40, 64, unix.IPPROTO_TCP
	copy(b[12:], source[:])
	copy(b[16:], destination[:])
	tcp := b[20:]
	binary.BigEndian.PutUint16(tcp[0:], client.Port())
	binary.BigEndian.PutUint16(tcp[2:], server.Port())
	binary.BigEndian.PutUint32(tcp[4:], seq)
	binary.BigEndian.PutUint32(tcp[8:], ack)
	tcp[12], tcp[13] = 5<<4, flags
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	sum := uint32(unix.IPPROTO_TCP + len(tcp))
	for i := 12; i < 40; i += 2 { // with the addresses, which are a part of the pseudo header
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(tcp[16:], ^uint16(sum))
	return b
}
