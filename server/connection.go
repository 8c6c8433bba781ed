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

	mu  sync.Mutex
	pod *identity.Pod
}

type connectionKey struct{}

// withConnection puts a connection on its context; nothing is looked up yet.
func withConnection(ctx context.Context, c net.Conn, draining <-chan struct{}) context.Context {
	return context.WithValue(ctx, connectionKey{}, &connection{draining: draining, addresses: identity.Connection{
		Remote: addrPort(c.RemoteAddr()), Local: addrPort(c.LocalAddr()),
	}})
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

func (c *connection) workload(ctx context.Context, id Identity) (identity.Workload, error) {
	c.mu.Lock()
	pod := c.pod
	c.mu.Unlock()
	if pod == nil {
		found, err := id.Pod(ctx, c.addresses)
		if err != nil {
			return identity.Workload{}, err
		}
		pod = &found
		c.mu.Lock()
		c.pod = pod
		c.mu.Unlock()
	}
	return id.Workload(ctx, *pod)
}
