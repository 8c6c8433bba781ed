package fakegoogle

import (
	"net"
	"net/http"
	"time"
)

// T is the part of [testing.TB] that [Start] needs. As an interface of its own it
// keeps the testing package out of binaries that embed a [Server].
type T interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// Running is a [Server] that listens.
type Running struct {
	*Server
	URL string // http://127.0.0.1:PORT
	t   T
}

// Start serves an offline Google on a free loopback port until the test ends.
func Start(t T, opts Options) *Running {
	t.Helper()
	// Not httptest: importing it registers a command line flag.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("fakegoogle: %v", err)
	}
	s := New(opts)
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // always returns an error, http.ErrServerClosed after Close
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return &Running{Server: s, URL: "http://" + listener.Addr().String(), t: t}
}

// Bind is [Server.Bind]; the test fails if the binding is refused.
func (r *Running) Bind(resource, role, member string) {
	err := r.Server.Bind(resource, role, member)
	if err == nil {
		return
	}
	if r.t == nil {
		panic(err)
	}
	r.t.Helper()
	r.t.Fatalf("fakegoogle: %s to %s on %s: %v", role, member, resource, err)
}
