package httpserver

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func TestRun_ClosesListenerAndConnectionsWithItsContext(t *testing.T) {
	listener := listen(t)
	ctx, stop := context.WithCancel(t.Context())
	requested, ended := make(chan struct{}), make(chan error)
	go func() {
		ended <- Run(ctx, "admin server", listener, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(requested)
			<-r.Context().Done()
		}))
	}()
	go func() {
		<-requested
		stop()
	}()
	if response, err := http.Get("http://" + listener.Addr().String()); err == nil {
		_ = response.Body.Close()
		t.Error("the request is answered")
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		_ = conn.Close()
		t.Error("the server still listens")
	}
}

func TestRun_NamesTheServerInErrors(t *testing.T) {
	listener := listen(t)
	_ = listener.Close()
	err := Run(t.Context(), "admin server", listener, http.NotFoundHandler())
	if err == nil || !strings.HasPrefix(err.Error(), "admin server on "+listener.Addr().String()) {
		t.Errorf("error %v", err)
	}
}
