package server

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"gke-metadata-emulator/identity"
)

// Identity says who calls. Its errors are of type [*identity.Error].
type Identity interface {
	// Pod finds the pod that opened a connection. It waits until ctx ends for what
	// is not known yet.
	Pod(context.Context, identity.Connection) (identity.Pod, error)
	// Workload reads what the pod's KSA says now.
	Workload(context.Context, identity.Pod) (identity.Workload, error)
	// Changed returns a channel that is closed when another answer is possible; nil
	// where there never will be one.
	Changed() <-chan struct{}
}

// connection is an accepted connection with the pod at its other end, which is
// looked up when a request first needs it and then stays.
type connection struct {
	addresses identity.Connection
	draining  <-chan struct{} // closed when the server is about to stop

	mu       sync.Mutex
	pod      *identity.Pod
	workload *identity.Workload // what the pod's KSA said last
	until    <-chan struct{}    // closed when it may say another thing; nil where it never will

	token    accessToken // that was answered last
	answered encoded     // with it

}

type connectionKey struct{}

// newConnection looks nothing up yet.
func newConnection(c net.Conn, draining <-chan struct{}) *connection {
	return &connection{draining: draining, addresses: identity.Connection{
		Remote: addrPort(c.RemoteAddr()), Local: addrPort(c.LocalAddr()),
	}}
}

func connectionOf(ctx context.Context) *connection {
	c, _ := ctx.Value(connectionKey{}).(*connection)
	return c
}

// addrPort is the address of a TCP connection; of any other, the zero value, which
// is nobody's.
func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort()
	}
	return netip.AddrPort{}
}

// known is who calls where nobody need be asked, and nil elsewhere. The value is not to
// be changed.
func (c *connection) known() *identity.Workload {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.workload == nil || closed(c.until) {
		return nil
	}
	return c.workload
}

// answer is what stands on the wire for a token. For a second it is the same.
func (c *connection) answer(token accessToken) (encoded, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == token {
		return c.answered, nil
	}
	answered, err := encode(token)
	if err == nil {
		c.token, c.answered = token, answered
	}
	return answered, err
}

// caller is who calls, now. The value is not to be changed.
func (c *connection) caller(ctx context.Context, id Identity) (*identity.Workload, error) {
	c.mu.Lock()
	pod := c.pod
	c.mu.Unlock()
	if pod == nil {
		found, err := id.Pod(ctx, c.addresses)
		if err != nil {
			return nil, err
		}
		pod = &found
	}
	// Taken before the look: a change between the two must not be missed.
	until := id.Changed()
	w, err := id.Workload(ctx, *pod)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pod = pod
	if err != nil {
		c.workload = nil
		return nil, err
	}
	c.workload, c.until = &w, until
	return &w, nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
