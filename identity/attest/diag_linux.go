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

// The forms of sock_diag(7), from the kernel's include/uapi/linux/inet_diag.h.
const (
	diagCgroupID = 21 // INET_DIAG_CGROUP_ID, from Linux 5.9
	diagRequest  = 56 // sizeof struct inet_diag_req_v2
	diagAnswer   = 72 // sizeof struct inet_diag_msg
	diagIDAsked  = 8  // offsetof id in the one, and in the other
	diagIDGiven  = 4
	diagPorts    = 36 // of the id, what names the connection: two ports, two addresses
)

// sockets finds the cgroups of client sockets in the network namespace that it was
// opened in: those of the node's own network, where no program need run.
type sockets struct {
	mu     sync.Mutex
	socket *nl.NetlinkSocket
	turn   uint32
}

func openSockets() (*sockets, error) {
	socket, err := nl.Subscribe(unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	// The kernel answers at once; this is for the case that it does not.
	if err := socket.SetReceiveTimeout(&unix.Timeval{Sec: 1}); err != nil {
		socket.Close()
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	return &sockets{socket: socket}, nil
}

func (s *sockets) close() { s.socket.Close() }

// cgroup is the number of the cgroup of the socket at the client's end of a
// connection; found is false where the client is in another network namespace.
func (s *sockets) cgroup(t Tuple) (id uint64, found bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	request := nl.NewNetlinkRequest(unix.SOCK_DIAG_BY_FAMILY, 0)
	s.turn++
	request.Seq = s.turn
	asked := diagRequestOf(t)
	request.AddRawData(asked)
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
				continue // of a turn that timed out
			}
			switch m.Header.Type {
			case unix.NLMSG_ERROR:
				return 0, false, diagError(m.Data)
			case unix.SOCK_DIAG_BY_FAMILY:
				id, found = clientCgroup(m.Data, asked[diagIDAsked:diagIDAsked+diagPorts])
				return id, found, nil
			}
		}
	}
}

func diagRequestOf(t Tuple) []byte {
	client, server := t.Client.Addr().Unmap(), t.Server.Addr().Unmap()
	b := make([]byte, diagRequest)
	b[0] = unix.AF_INET // finds a socket of both families too
	if client.Is6() {
		b[0] = unix.AF_INET6
	}
	b[1] = unix.IPPROTO_TCP
	id := b[diagIDAsked:]
	binary.BigEndian.PutUint16(id[0:], t.Client.Port())
	binary.BigEndian.PutUint16(id[2:], t.Server.Port())
	copy(id[4:], client.AsSlice())
	copy(id[20:], server.AsSlice())
	binary.NativeEndian.PutUint64(id[40:], ^uint64(0)) // INET_DIAG_NOCOOKIE: by its addresses
	return b
}

// clientCgroup reads an answer. Where nothing has these addresses the kernel
// answers with a listener at the client's port, so the answer's are compared.
func clientCgroup(answer, asked []byte) (uint64, bool) {
	if len(answer) < diagAnswer {
		return 0, false
	}
	given := answer[diagIDGiven : diagIDGiven+diagPorts]
	if answer[0] == unix.AF_INET6 && binary.BigEndian.Uint64(asked[12:]) == 0 && isMapped(given) {
		given = unmapped(given)
	}
	open := answer[1] == unix.BPF_TCP_ESTABLISHED || answer[1] == unix.BPF_TCP_FIN_WAIT1 || answer[1] == unix.BPF_TCP_FIN_WAIT2
	if !open || !slices.Equal(given, asked) {
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

func isMapped(id []byte) bool {
	return netip.AddrFrom16([16]byte(id[4:20])).Is4In6() && netip.AddrFrom16([16]byte(id[20:36])).Is4In6()
}

// unmapped is the id of a socket of both families, as one of IPv4 alone has it.
func unmapped(id []byte) []byte {
	v4 := make([]byte, diagPorts)
	copy(v4, id[:4])
	copy(v4[4:], id[16:20])
	copy(v4[20:], id[32:36])
	return v4
}

func diagError(data []byte) error {
	if len(data) < 4 {
		return errors.New("sock_diag: an error without its number")
	}
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(data)))
	if errno == 0 || errno == unix.ENOENT {
		return nil // no such socket here
	}
	return fmt.Errorf("sock_diag: %w", errno)
}
