package server

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"gke-metadata-emulator/identity"
)

// Identity finds the pod and the workload of a caller. Its errors are of type
// [*identity.Error].
type Identity interface {
	// Pod finds the pod that opened a connection. It waits until ctx ends for a pod
	// that is not known yet.
	Pod(context.Context, identity.Connection) (identity.Pod, error)
	// Workload reads the current settings of the pod's KSA.
	Workload(context.Context, identity.Pod) (identity.Workload, error)
	// Changed returns a channel that is closed when either answer may be different;
	// nil if neither ever changes.
	Changed() <-chan struct{}
}

// listener makes a [conn] of each accepted connection.
type listener struct {
	net.Listener
	draining <-chan struct{} // closed when the server begins to stop
}

func (l listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newConn(accepted, l.draining), nil
}

// conn is an accepted connection, with the state that requests on it share.
type conn struct {
	// Set when the connection is accepted, and constant.
	net.Conn
	addresses identity.Connection
	source    source
	draining  <-chan struct{} // closed when the server begins to stop

	activity // atomic

	// Only the goroutine that serves the connection touches the fields below: in
	// HTTP/1.1 a connection has one request at a time.

	pod      *identity.Pod      // nil until a request needs it
	workload *identity.Workload // nil until a request needs it, and after a failed lookup
	changed  <-chan struct{}    // closed when workload may be out of date; nil if it never is
	token    cachedToken        // the last access token sent

	request  request  // in progress, else zero
	response response // to the request in progress, else zero
}

// newConn looks nothing up yet.
func newConn(accepted net.Conn, draining <-chan struct{}) *conn {
	return &conn{
		Conn:      accepted,
		addresses: identity.Connection{Remote: addrPort(accepted.RemoteAddr()), Local: addrPort(accepted.LocalAddr())},
		source:    sourceOf(accepted),
		draining:  draining,
	}
}

// addrPort is the address of a TCP connection. For any other network it is the zero
// value, which no pod has.
func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort()
	}
	return netip.AddrPort{}
}

type connKey struct{}

func withConn(ctx context.Context, c *conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// connOf is the connection of a request's context, which [Server.Serve] puts there.
func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}

// caller is the workload that opened the connection. It is looked up again after
// each change of the cluster, for at most wait. A known workload costs no context
// and no timer. The result is shared: callers must not change it.
func (c *conn) caller(ctx context.Context, id Identity, wait time.Duration) (*identity.Workload, error) {
	if c.workload != nil && !closed(c.changed) {
		return c.workload, nil
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if c.pod == nil {
		pod, err := id.Pod(ctx, c.addresses)
		if err != nil {
			return nil, err
		}
		c.pod = &pod
	}
	// Taken before the lookup, so a change during the lookup is not missed.
	changed := id.Changed()
	workload, err := id.Workload(ctx, *c.pod)
	if err != nil {
		c.workload = nil
		return nil, err
	}
	c.workload, c.changed = &workload, changed
	return c.workload, nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Write adds our headers to the responses that net/http writes without calling a
// handler. Node's library takes a response without Metadata-Flavor for that of
// another server.
func (c *conn) Write(b []byte) (int, error) {
	if !writtenByNetHTTP(b) {
		return c.Conn.Write(b)
	}
	statusLine, rest, _ := bytes.Cut(b, []byte("\r\n"))
	headers := "\r\n" + flavorHeader + ": " + flavor + "\r\nServer: " + product + "\r\n"
	if _, err := c.Conn.Write(slices.Concat(statusLine, []byte(headers), rest)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// writtenByNetHTTP recognizes the responses that net/http writes, each in a single
// Write, to a malformed request: 400, 417, 431, 501 and 505.
func writtenByNetHTTP(b []byte) bool {
	return (bytes.HasPrefix(b, []byte("HTTP/1.1 4")) || bytes.HasPrefix(b, []byte("HTTP/1.1 5"))) &&
		bytes.Contains(b, []byte("\r\nConnection: close\r\n")) &&
		!bytes.Contains(b, []byte("\r\n"+flavorHeader+": "))
}

// CloseWrite is how net/http ends such a response, so the client reads it before
// the connection is reset.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
