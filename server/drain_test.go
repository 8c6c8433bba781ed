package server

import (
	"context"
	"net"
	"strings"
	"testing"
)

func TestServe_DrainsRequestsInProgress(t *testing.T) {
	minting, mint := make(chan struct{}), make(chan struct{})
	w := linked()
	w.onToken = func(context.Context) error {
		close(minting)
		<-mint
		return nil
	}
	r := serve(t, w)
	idle := r.dial(t)
	idle.do(t, get(root+"/instance/id")).expect(t, 200)
	busy := r.dial(t)
	request := get(accounts + "/default/token")
	if _, err := busy.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	<-minting
	eventually(t, "one request is in flight", func() bool { return metric(t, r.registry, "gme_http_requests_in_flight") == 1 })

	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	eventually(t, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", r.address)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	if _, err := idle.reader.ReadByte(); err == nil {
		t.Error("the idle connection received data instead of being closed")
	}
	select {
	case err := <-stopped:
		t.Errorf("Serve returned %v before the request in progress was answered", err)
	default:
	}
	close(mint)
	reply := busy.read(t, request).expect(t, 200)
	if !strings.Contains(reply.body, accessSecret) || !reply.Close {
		t.Errorf("close: %t, body %q; want true and a token", reply.Close, reply.body)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if n := metric(t, r.registry, "gme_http_requests_in_flight"); n != 0 {
		t.Errorf("%v requests in flight after Serve has returned", n)
	}
}

func TestServe_ReturnsNilIfContextHasEnded(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New(Options{}).Serve(ctx, listener); err != nil {
		t.Error(err)
	}
	if _, err := listener.Accept(); err == nil {
		t.Error("the listener is still open")
	}
}

func TestServe_NamesFailedListener(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	err = New(Options{}).Serve(t.Context(), listener)
	if err == nil || !strings.Contains(err.Error(), listener.Addr().String()) {
		t.Errorf("Serve: %v", err)
	}
}
