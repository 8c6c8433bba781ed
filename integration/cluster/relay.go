package cluster

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// relay forwards connections from a port on the machine's loopback to an
// address in the network of a process.
type relay struct {
	listener net.Listener
	running  sync.WaitGroup
	stop     context.CancelFunc
}

func startRelay(pid int, target string) (*relay, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &relay{listener: listener, stop: cancel}
	r.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			r.running.Go(func() { forward(ctx, client, pid, target) })
		}
	})
	return r, nil
}

func (r *relay) close() error {
	err := r.listener.Close()
	r.stop()
	r.running.Wait()
	return err
}

// forward returns when either side has closed. An error is for the client
// to see.
func forward(ctx context.Context, client net.Conn, pid int, target string) {
	defer client.Close()
	dialing, cancel := context.WithTimeout(ctx, 10*time.Second)
	server, err := dialIn(dialing, pid, "tcp", target)
	cancel()
	if err != nil {
		return
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { _ = errors.Join(client.Close(), server.Close()) })
	defer stop()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{server, client}, {client, server}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			if tcp, ok := pair[0].(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
			done <- struct{}{}
		}()
	}
	<-done
	<-done
}
