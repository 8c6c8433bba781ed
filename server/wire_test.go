package server

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/identity"
)

// Only what is a request and nothing else may be taken for the same request again.
func TestABodyIsNotTakenForTheRequestThatItLooksLike(t *testing.T) {
	request := get(tokenKey)
	length := fmt.Sprintf("Content-Length: %d", len(request))
	for title, test := range map[string]struct {
		answers int
		parts   []string
	}{
		"of a POST":                     {1, []string{bare("POST "+tokenKey, "Metadata-Flavor: Google", length), request}},
		"of a GET":                      {1, []string{get(root+"/instance/id", length), request}},
		"of a GET for a token":          {1, []string{get(tokenKey, length), request}},
		"of a GET for one, of one byte": {1, []string{get(tokenKey, "Content-Length: 1"), "G"}},
		"of a GET, as one chunk":        {1, []string{get(tokenKey, "Transfer-Encoding: chunked") + fmt.Sprintf("%x\r\n", len(request)), request, "\r\n0\r\n\r\n"}},
		"after a request of its own":    {2, []string{request + bare("POST "+tokenKey, "Metadata-Flavor: Google", length), request}},
		"no body, but two at once":      {2, []string{request + request}},
		"no body, but one and a half":   {2, []string{request + request[:30], request[30:]}},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := new(tenants)
				p := o.repeating(t)
				p.dial(t, "10.0.0.1:1").ask(t, request).expect(t, 200)
				for i := range 3 { // what has a body must not be kept either
					c := p.dial(t, fmt.Sprintf("10.0.0.1:%d", i+2))
					c.ask(t, request).expect(t, 200)
					synctest.Wait() // until the server waits for the next request
					go func() {
						for _, part := range test.parts {
							_, _ = io.WriteString(c, part)
						}
					}()
					for range test.answers {
						c.read(t, request)
					}
					c.ask(t, get(root+"/instance/id")).expect(t, 200)
					if n := c.reader.Buffered(); n > 0 {
						rest, _ := c.reader.Peek(n)
						t.Errorf("there is an answer too many: %q", rest)
					}
				}
			})
		})
	}
}

func TestRequestsThatComeEarlyArePartOfTheConversation(t *testing.T) {
	request := get(tokenKey)
	for title, early := range map[string][]string{
		"one":                  {request},
		"in pieces":            {request[:1], request[1:20], request[20:]},
		"two":                  {request, request},
		"two in pieces":        {request + request[:10], request[10:]},
		"another":              {get(root + "/instance/id")},
		"many":                 {strings.Repeat(request, 50)},
		"a large one":          {get(tokenKey, "X-Large: "+strings.Repeat("x", 3<<10)), request},
		"one with a body":      {get(tokenKey, "Content-Length: 5"), "12345", request},
		"one and a half-close": {request},
	} {
		t.Run(title, func(t *testing.T) {
			asking, mint := make(chan struct{}), make(chan struct{})
			o := &tenants{mint: sync.OnceFunc(func() { close(asking); <-mint })}
			r := serve(t, nil, func(so *Options) { so.Identity, so.Tokens, so.TokensChanged, so.Log = o, o, o.tokens.Next, nil })
			c := r.dial(t)
			write := func(part string) {
				if _, err := io.WriteString(c, part); err != nil {
					t.Fatal(err)
				}
			}
			write(request)
			<-asking
			for _, part := range early {
				write(part)
			}
			open := title != "one and a half-close"
			if !open {
				if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			close(mint)
			c.read(t, request).expect(t, 200)
			for range strings.Count(strings.Join(early, ""), "GET ") {
				c.read(t, request).expect(t, 200)
			}
			if open {
				c.ask(t, request).expect(t, 200)
			}
			if n := c.reader.Buffered(); n > 0 {
				t.Errorf("%d bytes too many", n)
			}
		})
	}
}

// A client asks again before net/http has stopped to wait for its end: also then it is
// the same request, and has the same answer.
func TestARequestThatComesEarlyIsRepeated(t *testing.T) {
	request := get(tokenKey)
	asking, mint := make(chan struct{}), make(chan struct{})
	o := &tenants{mint: sync.OnceFunc(func() { close(asking); <-mint })}
	r := serve(t, nil, func(so *Options) {
		so.Identity, so.Tokens, so.TokensChanged, so.Log, so.Now = o, o, o.tokens.Next, nil, func() time.Time { return now }
	})
	c := r.dial(t)
	for range 2 {
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		<-asking
	}
	close(mint)
	for range 2 {
		c.read(t, request).expect(t, 200)
	}
	for range 10 {
		c.ask(t, request).expect(t, 200)
	}
	if n := o.minted.Load(); n != 1 {
		t.Errorf("the source was asked %d times, want 1", n)
	}
}

// script is a connection on which the other end says this, piece by piece.
type script struct {
	net.Conn
	says    []string
	written bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.says) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.says[0])
	if s.says[0] = s.says[0][n:]; s.says[0] == "" {
		s.says = s.says[1:]
	}
	return n, nil
}

func (s *script) Write(p []byte) (int, error)      { return s.written.Write(p) }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// As above, read by read.
func TestTheByteThatComesEarlyBeginsTheNextRequest(t *testing.T) {
	first, request := get(root+"/instance/id"), get(tokenKey)
	server := New(Options{Now: func() time.Time { return now }})
	server.repeats.keep(asker{podUID: "uid"}, []byte(request), &repeat{until: now.Add(time.Hour), answer: []byte("the answer"), count: server.metrics.none})
	conn := &script{says: []string{first, request, first}}
	w := &wire{Conn: conn, server: server, crowd: server.metrics.newCrowd(1), caller: &connection{pod: &identity.Pod{UID: "uid"}}}
	read := func(size int) string {
		t.Helper()
		p := make([]byte, size)
		n, err := w.Read(p)
		if err != nil {
			t.Fatal(err)
		}
		return string(p[:n])
	}
	if got := read(4096); got != first {
		t.Errorf("the first request is read as %q", got)
	}
	if got := read(1); got != "" {
		t.Errorf("while it is answered %q is read", got)
	}
	w.idle()
	if got := read(4096); got != first || conn.written.String() != "the answer" {
		t.Errorf("%q is written, and then read %q", conn.written.String(), got)
	}
}

// Another connection of the pod has the answer from net/http each second, and this one
// never: it has its deadlines all the same.
func TestAConnectionThatIsOnlyRepeatedOnIsNotCutOffAndOneThatDoesNotReadIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := new(tenants)
		p := o.repeating(t)
		first, second := p.proved(t, "10.0.0.1:1"), p.proved(t, "10.0.0.1:2")
		for start := time.Now(); time.Since(start) < 2*idleTimeout; time.Sleep(time.Second) {
			first.ask(t, get(tokenKey)).expect(t, 200)
			before := o.minted.Load()
			second.ask(t, get(tokenKey)).expect(t, 200)
			if o.minted.Load() > before {
				t.Fatal("the second connection was answered anew")
			}
		}
		first.ask(t, get(tokenKey)).expect(t, 200)
		kept, unread := p.proved(t, "10.0.0.1:3"), p.proved(t, "10.0.0.1:4")
		before := o.minted.Load()
		kept.ask(t, get(tokenKey)).expect(t, 200)
		if _, err := io.WriteString(unread, get(tokenKey)); err != nil {
			t.Fatal(err)
		}
		second.ask(t, get(tokenKey)).expect(t, 200)
		if o.minted.Load() > before {
			t.Fatal("a connection was answered anew")
		}
		second.ask(t, get(root+"/instance/id")).expect(t, 200) // net/http takes the deadline away then
		if _, err := io.WriteString(second, get(tokenKey)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(writeTimeout + time.Second)
		for i, c := range []*client{second, unread} {
			if _, err := c.reader.ReadByte(); err == nil {
				t.Errorf("connection %d, which was not read from, is still open", i)
			}
		}
		kept.ask(t, get(tokenKey)).expect(t, 200)
	})
}

func TestAConnectionThatIsRepeatedOnIsNotTheSilentOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := new(tenants).repeating(t)
		var all []*client
		for i := range maxConnections {
			all = append(all, p.dial(t, fmt.Sprintf("10.0.0.1:%d", i+1)))
			all[i].ask(t, get(tokenKey)).expect(t, 200)
		}
		all[0].ask(t, get(tokenKey)).expect(t, 200)
		p.dial(t, "10.0.0.1:60000").ask(t, get(tokenKey)).expect(t, 200)
		all[0].ask(t, get(tokenKey)).expect(t, 200)
		if _, err := all[1].reader.ReadByte(); err != io.EOF {
			t.Errorf("the one that was silent for longest: %v", err)
		}
	})
}

// The head of a request ends where it does for net/http.
func FuzzHeadEnd(f *testing.F) {
	for _, s := range []string{
		get(tokenKey), get(tokenKey) + "G", get(tokenKey) + get(tokenKey), "GET / HTTP/1.1\n\n", "GET / HTTP/1.1\nHost: x\n\nGET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\n\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n \r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\r\n\r\n", "GET ", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if headEnd(b) != len(b) {
			return
		}
		reader := bufio.NewReader(bytes.NewReader(b))
		if _, err := http.ReadRequest(reader); err != nil {
			return
		}
		if n := reader.Buffered(); n > 0 {
			t.Errorf("%q: %d bytes are left", b, n)
		}
	})
}
