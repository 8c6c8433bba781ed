package server

import (
	"context"
	"net"
	"strings"
	"testing"
)

func TestARequestUnderWayIsAnsweredWhenTheServerStopsAndNewOnesAreRefused(t *testing.T) {
	minting, mint := make(chan struct{}), make(chan struct{})
	w := linked()
	w.token = func(context.Context) error {
		close(minting)
		<-mint
		return nil
	}
	r := serve(t, w)
	idle := r.dial(t)
	idle.ask(t, get(root+"/instance/id")).expect(t, 200)
	busy := r.dial(t)
	request := get(accounts + "/default/token")
	if _, err := busy.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	<-minting
	if n := gauge(t, r.registry, "gme_http_requests_in_flight"); n != 1 {
		t.Errorf("%v requests in flight", n)
	}

	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	eventually(t, "connections are refused", func() bool {
		conn, err := net.Dial("tcp", r.address)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	if _, err := idle.reader.ReadByte(); err == nil {
		t.Error("an idle connection was sent something instead of being closed")
	}
	select {
	case err := <-stopped:
		t.Errorf("Serve returned %v before the request under way was answered", err)
	default:
	}
	close(mint)
	reply := busy.read(t, request).expect(t, 200)
	if !strings.Contains(reply.body, accessSecret) || !reply.Close {
		t.Errorf("the answer keeps the connection (close: %t) or has no token: %q", !reply.Close, reply.body)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if n := gauge(t, r.registry, "gme_http_requests_in_flight"); n != 0 {
		t.Errorf("%v requests in flight after all", n)
	}
}

func TestServeReturnsNothingWhenItsContextHasEndedBefore(t *testing.T) {
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

func TestServeNamesTheListenerThatFailed(t *testing.T) {
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
