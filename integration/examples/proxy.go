package examples

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

// proxy is an HTTP proxy that leads to the Internet of stand-ins and nowhere
// else.
type proxy struct {
	internet *internet
	to       *connections
}

func (p proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, port, _ := net.SplitHostPort(r.Host)
	if _, ok := p.internet.handlers[name]; r.Method != http.MethodConnect || port != "443" || !ok {
		http.Error(w, "no stand-in is "+r.Host, http.StatusForbidden)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// A client sends nothing before it has the answer.
	err = conn.SetDeadline(time.Time{})
	if err == nil && buffered.Reader.Buffered() == 0 {
		if _, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"); err == nil && p.to.add(conn) {
			return
		}
	}
	_ = conn.Close() // which the client sees
}

// connections is a listener for connections that were accepted elsewhere.
type connections struct {
	ctx     context.Context // ends with the listener
	stop    context.CancelFunc
	waiting chan net.Conn
}

func newConnections() *connections {
	ctx, stop := context.WithCancel(context.Background())
	return &connections{ctx: ctx, stop: stop, waiting: make(chan net.Conn)}
}

// add hands a connection over, and returns false if the listener is closed.
func (c *connections) add(conn net.Conn) bool {
	select {
	case c.waiting <- conn:
		return true
	case <-c.ctx.Done():
		return false
	}
}

func (c *connections) Accept() (net.Conn, error) {
	select {
	case conn := <-c.waiting:
		return conn, nil
	case <-c.ctx.Done():
		return nil, net.ErrClosed
	}
}

func (c *connections) Close() error   { c.stop(); return nil }
func (c *connections) Addr() net.Addr { return &net.TCPAddr{} }
