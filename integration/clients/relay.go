package clients

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// relay brings connections out of a sandbox to the metadata server, as those of a
// pod, and notes which requests have passed.
type relay struct {
	mu       sync.Mutex
	requests []seen
	more     chan struct{} // closed and replaced at each request
}

type seen struct {
	line string // like GET /computeMetadata/v1/project/project-id HTTP/1.1
	at   time.Time
}

func startRelay(t testing.TB, listener net.Listener, podIP, target string) *relay {
	r := &relay{more: make(chan struct{})}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(podIP)}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("relay: %v", err)
				}
				return
			}
			running.Go(func() { r.connect(ctx, client, dialer, target) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		running.Wait()
	})
	return r
}

// connect relays one connection until both directions have ended, or ctx. What
// fails the client sees for itself.
func (r *relay) connect(ctx context.Context, client net.Conn, dialer *net.Dialer, target string) {
	defer client.Close()
	server, err := dialer.DialContext(ctx, "tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() {
		_ = client.Close()
		_ = server.Close()
	})()
	var both sync.WaitGroup
	both.Go(func() { forward(server, io.TeeReader(client, &requestLines{relay: r})) })
	both.Go(func() { forward(client, server) })
	both.Wait()
}

func forward(to net.Conn, from io.Reader) {
	_, _ = io.Copy(to, from)
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// requestLines finds the first lines of requests without a body.
type requestLines struct {
	relay *relay
	rest  []byte
}

func (l *requestLines) Write(b []byte) (int, error) {
	l.rest = append(l.rest, b...)
	for {
		head, rest, found := bytes.Cut(l.rest, []byte("\r\n\r\n"))
		if !found {
			return len(b), nil
		}
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		l.relay.note(string(line))
		l.rest = rest
	}
}

func (r *relay) note(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, seen{line, time.Now()})
	close(r.more)
	r.more = make(chan struct{})
}

// wait returns when a request has passed whose first line contains part.
func (r *relay) wait(ctx context.Context, part string) (seen, error) {
	for {
		r.mu.Lock()
		more := r.more
		for _, s := range r.requests {
			if strings.Contains(s.line, part) {
				r.mu.Unlock()
				return s, nil
			}
		}
		r.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return seen{}, context.Cause(ctx)
		}
	}
}
