package attest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The messages of sock_diag(7), from the kernel's include/uapi/linux/inet_diag.h.
const (
	diagCgroupID = 21 // INET_DIAG_CGROUP_ID, from Linux 5.9
	diagRequest  = 56 // sizeof struct inet_diag_req_v2
	diagAnswer   = 72 // sizeof struct inet_diag_msg
	requestID    = 8  // offsetof id in struct inet_diag_req_v2
	answerID     = 4  // offsetof id in struct inet_diag_msg
	diagTuple    = 36 // size of the two ports and two addresses of struct inet_diag_sockid
)

// sockets finds the cgroups of client sockets in the network namespace in which it was
// opened, which is the node's own. It needs no eBPF.
type sockets struct {
	mu       sync.Mutex // guards the rest: one request at a time
	socket   *nl.NetlinkSocket
	sequence uint32 // of the last request
}

func openSockets() (*sockets, error) {
	socket, err := nl.Subscribe(unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	// The kernel answers at once. The timeout bounds the wait if it does not.
	if err := socket.SetReceiveTimeout(&unix.Timeval{Sec: 1}); err != nil {
		socket.Close()
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	return &sockets{socket: socket}, nil
}

func (s *sockets) close() { s.socket.Close() }

// cgroup returns the cgroup ID of the client's socket of a connection. The socket is not
// found if the client is in another network namespace.
func (s *sockets) cgroup(t Tuple) (id uint64, found bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	request := nl.NewNetlinkRequest(unix.SOCK_DIAG_BY_FAMILY, 0)
	s.sequence++
	request.Seq = s.sequence
	message := newDiagRequest(t)
	request.AddRawData(message)
	if err := s.socket.Send(request); err != nil {
		return 0, false, fmt.Errorf("sock_diag: %w", err)
	}
	for {
		messages, from, err := s.socket.Receive()
		if err != nil {
			return 0, false, fmt.Errorf("sock_diag: %w", err)
		}
		if from.Pid != nl.PidKernel {
			continue
		}
		for _, m := range messages {
			if m.Header.Seq != request.Seq {
				continue // the answer to a request that timed out
			}
			switch m.Header.Type {
			case unix.NLMSG_ERROR:
				return 0, false, diagError(m.Data)
			case unix.SOCK_DIAG_BY_FAMILY:
				id, found = clientCgroup(m.Data, message[requestID:requestID+diagTuple])
				return id, found, nil
			}
		}
	}
}

func newDiagRequest(t Tuple) []byte {
	client, server := t.Client.Addr().Unmap(), t.Server.Addr().Unmap()
	b := make([]byte, diagRequest)
	b[0] = unix.AF_INET // also finds sockets of both families
	if client.Is6() {
		b[0] = unix.AF_INET6
	}
	b[1] = unix.IPPROTO_TCP
	id := b[requestID:]
	binary.BigEndian.PutUint16(id[0:], t.Client.Port())
	binary.BigEndian.PutUint16(id[2:], t.Server.Port())
	copy(id[4:], client.AsSlice())
	copy(id[20:], server.AsSlice())
	binary.NativeEndian.PutUint64(id[40:], ^uint64(0)) // INET_DIAG_NOCOOKIE: search by addresses
	return b
}

// clientCgroup returns the cgroup ID in the answer to a request for a tuple of ports and
// addresses. It compares the answer's tuple: if no connection has the requested tuple, the
// kernel answers with a listener at the client's port.
func clientCgroup(answer, tuple []byte) (uint64, bool) {
	if len(answer) < diagAnswer {
		return 0, false
	}
	answered := answer[answerID : answerID+diagTuple]
	if answer[0] == unix.AF_INET6 && binary.BigEndian.Uint64(tuple[12:]) == 0 && isMapped(answered) {
		answered = unmapped(answered)
	}
	open := answer[1] == unix.BPF_TCP_ESTABLISHED || answer[1] == unix.BPF_TCP_FIN_WAIT1 || answer[1] == unix.BPF_TCP_FIN_WAIT2
	if !open || !slices.Equal(answered, tuple) {
		return 0, false
	}
	attributes, err := nl.ParseRouteAttr(answer[diagAnswer:])
	if err != nil {
		return 0, false
	}
	for _, a := range attributes {
		if a.Attr.Type == diagCgroupID && len(a.Value) >= 8 {
			return binary.NativeEndian.Uint64(a.Value), true
		}
	}
	return 0, false
}

// isMapped reports whether both addresses of a tuple are IPv4 in IPv6 form.
func isMapped(tuple []byte) bool {
	return netip.AddrFrom16([16]byte(tuple[4:20])).Is4In6() && netip.AddrFrom16([16]byte(tuple[20:36])).Is4In6()
}

// unmapped returns the tuple of a socket of both families in the form of an IPv4 socket.
func unmapped(tuple []byte) []byte {
	v4 := make([]byte, diagTuple)
	copy(v4, tuple[:4])
	copy(v4[4:], tuple[16:20])
	copy(v4[20:], tuple[32:36])
	return v4
}

func diagError(data []byte) error {
	if len(data) < 4 {
		return errors.New("sock_diag: an error message without a number")
	}
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(data)))
	if errno == 0 || errno == unix.ENOENT {
		return nil // no such socket in this network namespace
	}
	return fmt.Errorf("sock_diag: %w", errno)
}
