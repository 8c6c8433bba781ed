package server

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// pipeListener accepts pipes in place of TCP connections, for tests in a bubble of
// testing/synctest: waits on pipes use the bubble's clock.
type pipeListener struct {
	accepted chan net.Conn
	closed   chan struct{}
}

type pipeConn struct {
	net.Conn
	remote netip.AddrPort
}

func (p pipeConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(p.remote) }

func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accepted:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeListener) Close() error {
	close(p.closed)
	return nil
}

func (p *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// pipeServer is a server on such a listener.
type pipeServer struct {
	*pipeListener
	registry *prometheus.Registry
}

func servePipes(t *testing.T, w *world, change ...func(*Options)) pipeServer {
	t.Helper()
	p := pipeServer{&pipeListener{accepted: make(chan net.Conn), closed: make(chan struct{})}, prometheus.NewRegistry()}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	o := Options{Identity: w, Tokens: w, Facts: func() Facts { return testFacts }, Metrics: p.registry}
	for _, f := range change {
		f(&o)
	}
	go func() { served <- New(o).Serve(ctx, p) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return p
}

func (p pipeServer) dial(t *testing.T, from string) *client {
	t.Helper()
	return p.dialAs(t, func(far net.Conn) net.Conn { return pipeConn{far, netip.MustParseAddrPort(from)} })
}

// dialAs dials a connection; wrap makes the server's end of it.
func (p pipeServer) dialAs(t *testing.T, wrap func(net.Conn) net.Conn) *client {
	t.Helper()
	near, far := net.Pipe()
	p.accepted <- wrap(far)
	t.Cleanup(func() { _ = near.Close() })
	return &client{Conn: near, reader: bufio.NewReader(near)}
}
