package gcs

import (
	"context"
	"net"

	"golang.org/x/sync/errgroup"
)

// T is the part of testing.TB that [Start] needs.
type T interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Running is a Server that listens, with a Proxy before it.
type Running struct {
	*Server
	URL      string // plain HTTP, like http://127.0.0.1:PORT
	ProxyURL string // for HTTPS_PROXY
	CA       []byte // for SSL_CERT_FILE, in PEM
}

// Start serves a stand-in on loopback ports for the lifetime of a test.
func Start(t T, opts Options) *Running {
	t.Helper()
	server, err := New(opts)
	if err != nil {
		t.Fatalf("%v", err)
	}
	proxy, err := NewProxy(server, opts.Log)
	if err != nil {
		t.Fatalf("%v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	g, ctx := errgroup.WithContext(ctx)
	listen := func(serve func(context.Context, net.Listener) error) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			stop()
			t.Fatalf("gcs: %v", err)
		}
		g.Go(func() error { return serve(ctx, listener) })
		return "http://" + listener.Addr().String()
	}
	running := &Running{Server: server, URL: listen(server.Serve), ProxyURL: listen(proxy.Serve), CA: proxy.CA()}
	t.Cleanup(func() {
		stop()
		if err := g.Wait(); err != nil {
			t.Errorf("%v", err)
		}
		server.Close()
	})
	return running
}
