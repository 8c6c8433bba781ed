package server

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"slices"
	"time"
)

// accepting accepts connections that know their place in the server.
type accepting struct {
	net.Listener
	server *Server
	crowd  *crowd
}

func (l accepting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	// net/http sets one when it has read a request, which it need not.
	now := time.Now()
	_ = c.SetWriteDeadline(now.Add(writeTimeout))
	return &wire{Conn: c, server: l.server, crowd: l.crowd, writes: now}, nil
}

// wire is what [net/http] reads from and writes to. It adds our headers to what that
// answers by itself, and answers itself who asks for the same again.
type wire struct {
	net.Conn
	visit
	server *Server
	crowd  *crowd
	caller *connection // set before the first read

	place   place
	request []byte // the one that is being answered, where it came alone
	early   []byte // the byte that came while it was

	reads, writes time.Time // when their deadlines were set here last
}

// place is where in the conversation the next byte is that comes.
type place int

const (
	begins  place = iota // it begins a request
	ends                 // a request came whole, and is being answered
	unknown              // net/http alone knows, from now on
)

// Read gives net/http what is not the same again.
func (c *wire) Read(p []byte) (int, error) {
	if c.place == ends {
		if len(p) == 1 {
			return c.watch(p)
		}
		c.place = unknown // a body follows
	}
	for {
		n, err := c.read(p)
		if n == 0 || c.place == unknown {
			return n, err
		}
		start := time.Now()
		again := c.again(p[:n])
		if again == nil {
			c.place = unknown
			if headEnd(p[:n]) == n {
				c.place, c.request = ends, append(c.request[:0], p[:n]...)
			}
			return n, err
		}
		if err := c.repeat(again, start); err != nil {
			return 0, err
		}
	}
}

// read begins with the byte that came early.
func (c *wire) read(p []byte) (int, error) {
	n := copy(p, c.early)
	c.early = c.early[:0]
	more, err := c.Conn.Read(p[n:])
	return n + more, err
}

// watch is how net/http waits for the client to hang up while it answers, in a goroutine
// of its own: it reads a byte, and stops that by a deadline. A client that has its answer
// may ask again before that is stopped: its first byte is kept here, and net/http has
// nothing and watches no longer, as if it had the byte.
func (c *wire) watch(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n == 0 {
		return 0, err
	}
	c.early = append(c.early, p[:n]...)
	return 0, nil
}

// asker is who asks, where that is known: not before the first answer on a connection of
// which the kernel knows nothing. The next with its addresses may be another pod's.
func (c *wire) asker() (by asker, known bool) {
	if proved, ok := c.Conn.(attested); ok && proved.PodUID() != "" {
		return asker{provedUID: proved.PodUID(), address: c.caller.addresses.Remote.Addr()}, true
	}
	uid := c.caller.podUID()
	return asker{podUID: uid}, uid != ""
}

// again is the answer that the request had in this second, or nil.
func (c *wire) again(request []byte) *repeat {
	by, known := c.asker()
	if !known {
		return nil
	}
	return c.server.repeats.find(by, request)
}

// repeat gives an answer once more.
func (c *wire) repeat(again *repeat, start time.Time) error {
	c.crowd.visited(c)
	// A second more or less is all the same.
	if start.Sub(c.writes) > time.Second {
		c.writes = start
		_ = c.SetWriteDeadline(start.Add(writeTimeout))
	}
	if start.Sub(c.reads) > time.Second && !again.last {
		c.reads = start
		_ = c.SetReadDeadline(start.Add(idleTimeout))
	}
	if _, err := c.Conn.Write(again.answer); err != nil {
		return err
	}
	again.count.observe(200, time.Since(start))
	if again.last {
		return io.EOF
	}
	runtime.Gosched()
	return nil
}

// idle says that net/http has answered all that it has read.
func (c *wire) idle() {
	if c.place == ends {
		c.place = begins
	}
	c.reads, c.writes = time.Time{}, time.Time{} // it has set others
}

func (c *wire) Write(b []byte) (int, error) {
	c.note(b)
	if !ownAnswer(b) {
		return c.Conn.Write(b)
	}
	line, rest, _ := bytes.Cut(b, []byte("\r\n"))
	headers := "\r\n" + flavorHeader + ": " + flavor + "\r\nServer: " + product + "\r\n"
	if _, err := c.Conn.Write(slices.Concat(line, []byte(headers), rest)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// note keeps an answer that is written for who asks again.
func (c *wire) note(written []byte) {
	again, request := c.caller.again, c.request
	c.caller.again, c.request = nil, request[:0]
	if by, known := c.asker(); known && again != nil && len(request) > 0 && again.written(written) {
		c.server.repeats.keep(by, request, again)
	}
}

// ownAnswer says whether net/http answers by itself, with one write, to what is no
// proper request: 400, 417, 431, 501 and 505.
func ownAnswer(b []byte) bool {
	return (bytes.HasPrefix(b, []byte("HTTP/1.1 4")) || bytes.HasPrefix(b, []byte("HTTP/1.1 5"))) &&
		bytes.Contains(b, []byte("\r\nConnection: close\r\n")) &&
		!bytes.Contains(b, []byte("\r\n"+flavorHeader+": "))
}

// CloseWrite is what net/http ends such an answer with, so that it arrives before
// the reset.
func (c *wire) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
