package conformance

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// breakage is one mistake of a server.
type breakage struct {
	name   string
	before func(*ask)          // changes the request to the correct server
	after  func(*ask, *answer) // changes the answer
	conn   func(net.Conn)      // serves the connection instead of the correct server
	// noBodies takes a request's body for the next request.
	noBodies bool
	caller   caller        // default: linked
	breaks   []string      // patterns of the names of the cases that must fail, all of them
	timeout  time.Duration // of a case; default: that of Options
}

// ask is a request on its way to the correct server.
type ask struct {
	method, target, version, host string
	header                        http.Header
	head                          string // as it came
}

// path is the target without its query.
func (a *ask) path() string {
	path, _, _ := strings.Cut(a.target, "?")
	return path
}

func (a *ask) query() string {
	_, query, _ := strings.Cut(a.target, "?")
	return query
}

// answer is the answer on its way back.
type answer struct {
	status   int
	header   http.Header
	body     string
	headBody bool // the body is sent even if the method is HEAD
	keep     bool // the connection stays open, regardless of its headers
	hangUp   bool // the connection is closed, regardless of its headers
	silent   bool // there is no answer: the client gives up
}

func (a *answer) set(status int, contentType, body string) {
	a.status, a.body = status, body
	a.header.Set("Content-Type", contentType)
}

// proxy is a server in front of the correct one, with a breakage.
type proxy struct {
	t      *testing.T
	target string
	breakage
}

// start serves until the test ends, and returns the proxy's address.
func (p *proxy) start() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.connection(c) })
		}
	})
	p.t.Cleanup(func() { _ = listener.Close(); running.Wait() })
	return listener.Addr().String()
}

func (p *proxy) connection(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if p.conn != nil {
		p.conn(c)
		return
	}
	for reader := bufio.NewReader(c); ; {
		head := &bytes.Buffer{}
		request, err := readHead(reader, head)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			reply := &answer{status: 400, header: http.Header{"Metadata-Flavor": {"Google"}, "Connection": {"close"}}}
			if p.after != nil {
				p.after(&ask{}, reply)
			}
			write(c, &ask{}, reply)
			return
		}
		if !p.noBodies {
			_, _ = reader.Discard(int(max(0, request.ContentLength)))
		}
		request.Header.Del("Content-Length")
		ends := request.Close || !request.ProtoAtLeast(1, 1)
		a := &ask{request.Method, request.RequestURI, request.Proto, request.Host, request.Header, head.String()}
		if p.before != nil {
			p.before(a)
		}
		reply, err := p.forward(a)
		if err != nil {
			p.t.Errorf("%s: the correct server: %v", p.name, err)
			return
		}
		if p.after != nil {
			p.after(a, reply)
		}
		if reply.silent {
			_, _ = io.Copy(io.Discard, reader)
			return
		}
		write(c, a, reply)
		if reply.hangUp || ends && !reply.keep {
			return
		}
		if ends {
			_, _ = io.Copy(io.Discard, reader)
			return
		}
	}
}

// readHead reads a request, and stores its head unchanged.
func readHead(reader *bufio.Reader, head *bytes.Buffer) (*http.Request, error) {
	for !bytes.HasSuffix(head.Bytes(), []byte("\r\n\r\n")) {
		line, err := reader.ReadBytes('\n')
		if head.Write(line); err != nil {
			return nil, err
		}
	}
	return http.ReadRequest(bufio.NewReader(bytes.NewReader(head.Bytes())))
}

// forward sends a request to the correct server on its own connection.
func (p *proxy) forward(a *ask) (*answer, error) {
	c, err := net.Dial("tcp", p.target)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", a.method, a.target, a.host)
	_ = a.header.Write(&b)
	if _, err := io.WriteString(c, b.String()+"\r\n"); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: a.method})
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	response.Header.Del("Content-Length")
	return &answer{status: response.StatusCode, header: response.Header, body: string(body)}, nil
}

func write(c net.Conn, a *ask, reply *answer) {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nContent-Length: %d\r\n", reply.status, http.StatusText(reply.status), len(reply.body))
	_ = reply.header.Write(&b)
	b.WriteString("\r\n")
	if a.method != http.MethodHead || reply.headBody {
		b.WriteString(reply.body)
	}
	_, _ = io.WriteString(c, b.String())
}
