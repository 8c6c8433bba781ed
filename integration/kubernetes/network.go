package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// Client returns an HTTP client whose connections have the source address ip. To a server on
// loopback it is a program in the pod with this address. On Linux, every address in
// 127.0.0.0/8 works.
func Client(t testing.TB, ip string) *http.Client {
	t.Helper()
	dialer, err := dialerFrom(ip)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: dialer.DialContext} // and no proxy
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// Relay returns the address of a relay to target, a host and port. Its connections have the
// source address ip, for programs that cannot choose their address.
func Relay(t testing.TB, ip, target string) string {
	t.Helper()
	dialer, err := dialerFrom(ip)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("relay: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("relay to %s: %v", target, err)
				}
				return
			}
			running.Go(func() {
				if err := relay(ctx, client, dialer, target); err != nil {
					t.Logf("relay: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		running.Wait()
	})
	return listener.Addr().String()
}

// relay connects client to target until both directions have ended, or ctx.
func relay(ctx context.Context, client net.Conn, dialer *net.Dialer, target string) error {
	defer client.Close()
	server, err := dialer.DialContext(ctx, "tcp", target)
	if err != nil {
		return err
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() {
		_ = client.Close()
		_ = server.Close()
	})
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { forward(server, client) })
	both.Go(func() { forward(client, server) })
	both.Wait()
	return nil
}

// forward copies until the sender ends its side, and then ends the receiver's.
// An error is a connection that broke: both ends see that for themselves.
func forward(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		_ = to.Close()
		_ = from.Close()
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

func dialerFrom(ip string) (*net.Dialer, error) {
	address := net.ParseIP(ip)
	if address == nil {
		return nil, fmt.Errorf("%q is no IP address to connect from", ip)
	}
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: address}}, nil
}
