package gcs

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"gke-metadata-emulator/integration/internal/certs"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Proxy is an HTTP proxy that is https://storage.googleapis.com itself and
// connects to nothing.
type Proxy struct {
	storage     http.Handler
	log         *slog.Logger
	certificate tls.Certificate
	ca          []byte
}

// NewProxy makes a proxy with a new CA for a [Server]. It logs refused hosts and failed
// handshakes, unless the log is nil.
func NewProxy(storage http.Handler, log *slog.Logger) (*Proxy, error) {
	certificate, ca, err := certs.New(host, "*."+host)
	if err != nil {
		return nil, err
	}
	return &Proxy{storage: storage, log: cmp.Or(log, slog.New(slog.DiscardHandler)), certificate: certificate, ca: ca}, nil
}

// CA is the certificate that a client has to trust, in PEM.
func (p *Proxy) CA() []byte { return slices.Clone(p.ca) }

// Serve serves the proxy until ctx ends.
func (p *Proxy) Serve(ctx context.Context, listener net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	tunnels := &tunnels{address: listener.Addr(), opened: make(chan net.Conn), closed: ctx.Done()}
	secured := tls.NewListener(tunnels, &tls.Config{
		Certificates: []tls.Certificate{p.certificate},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"},
	})
	connect := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.connect(w, r, tunnels) })
	g.Go(func() error { return serve(ctx, newHTTPServer(p.storage, p.log), secured) })
	g.Go(func() error { return serve(ctx, newHTTPServer(connect, p.log), listener) })
	return g.Wait()
}

func (p *Proxy) connect(w http.ResponseWriter, r *http.Request, tunnels *tunnels) {
	if !isStorage(r) {
		p.log.InfoContext(r.Context(), "the proxy refused a request", "method", r.Method, "host", r.Host)
		http.Error(w, "this proxy is https://"+host+" and nothing else: leave "+r.Host+" to NO_PROXY", http.StatusForbidden)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = conn.SetDeadline(time.Time{}) // the server's own are over
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		_ = conn.Close()
		return
	}
	tunnels.open(tunnel{conn, buffered.Reader})
}

func isStorage(r *http.Request) bool {
	name, port, err := net.SplitHostPort(r.Host)
	return r.Method == http.MethodConnect && err == nil && port == "443" &&
		(name == host || strings.HasSuffix(name, "."+host))
}

// tunnel is a connection of which something may have been read already.
type tunnel struct {
	net.Conn
	reader *bufio.Reader
}

func (t tunnel) Read(b []byte) (int, error) { return t.reader.Read(b) }

// tunnels is a listener for connections that CONNECT opened.
type tunnels struct {
	address net.Addr
	opened  chan net.Conn
	closed  <-chan struct{}
}

func (t *tunnels) open(conn net.Conn) {
	select {
	case t.opened <- conn:
	case <-t.closed:
		_ = conn.Close()
	}
}

func (t *tunnels) Accept() (net.Conn, error) {
	select {
	case conn := <-t.opened:
		return conn, nil
	case <-t.closed:
		return nil, net.ErrClosed
	}
}

func (t *tunnels) Addr() net.Addr { return t.address }

// Close has nothing to do: a listener of tunnels ends with its proxy.
func (t *tunnels) Close() error { return nil }
