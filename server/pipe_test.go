package server

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// pipes is a network without a kernel, for tests in a bubble of testing/synctest:
// its connections wait by the bubble's clock.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
}

type piped struct {
	net.Conn
	remote netip.AddrPort
}

func (p piped) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(p.remote) }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accepted:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// pipeline is a server on such a network.
type pipeline struct {
	*pipes
	registry *prometheus.Registry
}

func servePipes(t *testing.T, w *world, change ...func(*Options)) pipeline {
	t.Helper()
	p := pipeline{&pipes{accepted: make(chan net.Conn), closed: make(chan struct{})}, prometheus.NewRegistry()}
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

func (p pipeline) dial(t *testing.T, from string) *client {
	t.Helper()
	return p.through(t, func(far net.Conn) net.Conn { return piped{far, netip.MustParseAddrPort(from)} })
}

// through dials a connection that the server sees as a listener makes it.
func (p pipeline) through(t *testing.T, accepted func(net.Conn) net.Conn) *client {
	t.Helper()
	near, far := net.Pipe()
	p.accepted <- accepted(far)
	t.Cleanup(func() { _ = near.Close() })
	return &client{Conn: near, reader: bufio.NewReader(near)}
}
