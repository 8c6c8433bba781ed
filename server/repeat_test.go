package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/change"
	"gke-metadata-emulator/tokens"
)

// tenants are as many pods as there are addresses, whose tokens say whose they are and
// how many there were before.
type tenants struct {
	change.Signal // of the cluster
	tokens        change.Signal
	gsa           atomic.Value // string
	minted        atomic.Int32
	mint          func()    // where set, before a token
	expiry        time.Time // of the tokens; in an hour where zero
	large         string    // in each of them
}

func (*tenants) Pod(_ context.Context, c identity.Connection) (identity.Pod, error) {
	return identity.Pod{Namespace: "shop", Name: c.Remote.Addr().String(), UID: "uid of " + c.Remote.Addr().String()}, nil
}

func (o *tenants) Workload(_ context.Context, pod identity.Pod) (identity.Workload, error) {
	gsa, _ := o.gsa.Load().(string)
	return identity.Workload{Pod: pod, GSA: gsa}, nil
}

func (o *tenants) Changed() <-chan struct{} { return o.Next() }

func (o *tenants) AccessToken(_ context.Context, w identity.Workload, _ tokens.Scopes) (tokens.Token, error) {
	if o.mint != nil {
		o.mint()
	}
	expiry := o.expiry
	if expiry.IsZero() {
		expiry = time.Now().Add(time.Hour + time.Second/2)
	}
	return tokens.NewToken(fmt.Sprintf("%s %s %d", w.Pod.UID, w.GSA, o.minted.Add(1))+o.large, expiry), nil
}

func (*tenants) IDToken(context.Context, identity.Workload, tokens.IDTokenRequest) (tokens.Token, error) {
	return tokens.NewToken(idSecret, time.Now().Add(time.Hour)), nil
}

// repeating serves them, and begins as a second does: what follows at once is in it.
func (o *tenants) repeating(t *testing.T, change ...func(*Options)) pipeline {
	t.Helper()
	p := servePipes(t, nil, append([]func(*Options){func(so *Options) { so.Identity, so.Tokens, so.TokensChanged = o, o, o.tokens.Next }}, change...)...)
	time.Sleep(time.Until(endOfSecond(time.Now())))
	return p
}

// proved dials a connection that the kernel knows.
func (p pipeline) proved(t *testing.T, from string) *client {
	t.Helper()
	return p.through(t, func(far net.Conn) net.Conn { return proved{piped{far, netip.MustParseAddrPort(from)}, "proved"} })
}

const tokenKey = accounts + "/default/token"

func TestTheSameRequestOfAPodHasTheSameAnswerWithinItsSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &tenants{expiry: time.Now().Add(time.Hour + 300*time.Millisecond)}
		p := o.repeating(t)
		c := p.dial(t, "10.0.0.1:1")
		ask := func(c *client, headers ...string) string {
			c.seen.Reset()
			c.reader.Reset(io.TeeReader(c.Conn, &c.seen))
			return c.ask(t, get(tokenKey, headers...)).expect(t, 200).raw
		}
		first := ask(c)
		for range 3 {
			if again := ask(c); again != first {
				t.Errorf("the first answer\n%s\nand the same again\n%s", first, again)
			}
		}
		if n := o.minted.Load(); n != 1 {
			t.Errorf("the tokens' source was asked %d times for one thing", n)
		}
		if other := ask(c, "User-Agent: another"); other == first || o.minted.Load() != 2 {
			t.Errorf("another request: %s", other)
		}
		if again := ask(p.dial(t, "10.0.0.2:1")); !strings.Contains(again, "uid of 10.0.0.2") {
			t.Errorf("another pod: %s", again)
		}
		if again := ask(p.proved(t, "10.0.0.3:1")); !strings.Contains(again, "uid of 10.0.0.3") {
			t.Errorf("another pod that the kernel knows: %s", again)
		}
		if again := ask(c); again != first {
			t.Errorf("the same again, after others: %s", again)
		}
		// 0.3 s on it lives for a second less, and after 1 s the date is another.
		minted := o.minted.Load()
		for _, wait := range []time.Duration{299 * time.Millisecond, 2 * time.Millisecond, 698 * time.Millisecond, 2 * time.Millisecond} {
			time.Sleep(wait)
			before := o.minted.Load()
			ask(c)
			if asked := o.minted.Load() > before; asked != (wait == 2*time.Millisecond) {
				t.Errorf("after %s more the source was asked: %t", wait, asked)
			}
		}
		if n := o.minted.Load() - minted; n != 2 {
			t.Errorf("%d tokens in another second, want 2", n)
		}
		if n := gauge(t, p.registry, "gme_http_requests_total"); n != 12 {
			t.Errorf("%v requests are counted, of 12", n)
		}
	})
}

// Whatever is asked between, and however much at once.
func TestTheSameAnswerIsThatOfTheSameRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := new(tenants)
		p := o.repeating(t)
		c := p.dial(t, "10.0.0.1:1")
		token, scoped := get(tokenKey), get(tokenKey+"?scopes=https://www.googleapis.com/auth/cloud-platform")
		first := c.ask(t, token).body
		c.ask(t, get(accounts+"/default/email")).expect(t, 200)
		if again := c.ask(t, token).body; again != first {
			t.Errorf("after another key: %s, want %s", again, first)
		}
		busy := p.dial(t, "10.0.0.1:2")
		asking, mint := make(chan struct{}), make(chan struct{})
		o.mint = sync.OnceFunc(func() { close(asking); <-mint })
		go func() {
			_, _ = io.WriteString(busy, get(tokenKey, "User-Agent: busy"))
			_, _ = io.WriteString(busy, scoped+scoped)
		}()
		<-asking
		synctest.Wait() // the others are on their way
		close(mint)
		own := busy.read(t, token).body
		busy.read(t, scoped)
		busy.read(t, scoped)
		if again := c.ask(t, get(tokenKey, "User-Agent: busy")).body; again != own {
			t.Errorf("after two that came at once: %s, want %s", again, own)
		}
	})
}

func TestALargeTokenIsAnsweredWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &tenants{large: strings.Repeat("x", 5<<10)}
		c := o.repeating(t).dial(t, "10.0.0.1:1")
		for range 3 {
			if r := c.ask(t, get(tokenKey)).expect(t, 200); !strings.Contains(r.body, o.large) || !strings.HasSuffix(r.body, "}") {
				t.Errorf("%d bytes of an answer", len(r.body))
			}
		}
	})
}

// The end of the connection is the end of the answer for them.
func TestAClientOfHTTP10IsHungUpOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := new(tenants).repeating(t)
		for i := range 3 {
			c := p.proved(t, fmt.Sprintf("10.0.0.1:%d", i+1))
			c.ask(t, "GET "+tokenKey+" HTTP/1.0\r\nMetadata-Flavor: Google\r\n\r\n").expect(t, 200)
			if took := c.ended(t); took > 0 {
				t.Errorf("the connection is open for %s", took)
			}
		}
	})
}

// On a connection of its own, too, once the kernel says whose it is.
func TestANewConnectionHasTheAnswerAtOnceWhereTheKernelKnowsThePod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := new(tenants)
		p := o.repeating(t)
		for i := range 10 {
			r := p.proved(t, fmt.Sprintf("10.0.0.1:%d", i+1)).ask(t, get(tokenKey, "Connection: close")).expect(t, 200)
			if !r.Close || !strings.Contains(r.body, "uid of 10.0.0.1  1") {
				t.Errorf("close %t: %s", r.Close, r.body)
			}
		}
		if n := o.minted.Load(); n != 1 {
			t.Errorf("the source was asked %d times", n)
		}
		for i := range 2 {
			p.dial(t, fmt.Sprintf("10.0.0.1:%d", i+100)).ask(t, get(tokenKey, "Connection: close")).expect(t, 200)
		}
		if n := o.minted.Load(); n != 3 {
			t.Errorf("by an address alone: the source was asked %d times, want 3", n)
		}
		synctest.Wait()
		if n := p.open(t); n != 0 {
			t.Errorf("%d connections are still open", n)
		}
	})
}

func TestNothingIsRepeatedOnceTheClusterSaysAnotherThing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := new(tenants)
		p := o.repeating(t)
		c := p.dial(t, "10.0.0.1:1")
		for i := range 5 {
			gsa := fmt.Sprintf("gsa-%d@demo-project.iam.gserviceaccount.com", i)
			o.gsa.Store(gsa)
			o.Raise()
			for _, c := range []*client{c, c, p.proved(t, fmt.Sprintf("10.0.0.1:%d", i+2))} {
				if r := c.ask(t, get(tokenKey)); !strings.Contains(r.body, gsa) {
					t.Errorf("the KSA has %s, and the answer is %s", gsa, r.body)
				}
			}
		}
	})
}

func TestNothingIsRepeatedOnceTheTokensAreOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := new(tenants)
		c := o.repeating(t).dial(t, "10.0.0.1:1")
		o.mint = o.tokens.Raise // while it is being asked for, too
		for i := range 3 {
			c.ask(t, get(tokenKey)).expect(t, 200)
			if n := int(o.minted.Load()); n != i+1 {
				t.Errorf("the source was asked %d times, want %d", n, i+1)
			}
		}
		o.mint = nil
		for range 3 {
			c.ask(t, get(tokenKey)).expect(t, 200)
		}
		if n := o.minted.Load(); n != 4 {
			t.Errorf("the source was asked %d times, want 4", n)
		}
		o.tokens.Raise()
		c.ask(t, get(tokenKey)).expect(t, 200)
		if n := o.minted.Load(); n != 5 {
			t.Errorf("the source was asked %d times, want 5", n)
		}
	})
}

func TestWhatIsWrittenDownIsNotRepeated(t *testing.T) {
	for title, change := range map[string]func(*Options){
		"each token": func(o *Options) { o.TokensChanged = nil },
		"each request": func(o *Options) {
			o.Log = slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug}))
		},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := new(tenants)
				c := o.repeating(t, change).dial(t, "10.0.0.1:1")
				for range 3 {
					c.ask(t, get(tokenKey)).expect(t, 200)
				}
				if n := o.minted.Load(); n != 3 {
					t.Errorf("the source was asked %d times, want 3", n)
				}
			})
		})
	}
}

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

func TestAnswersThatAreKeptAreBoundedAndGoneInTheNextSecond(t *testing.T) {
	at := now
	r := &repeats{now: func() time.Time { return at }}
	keep := func(i int) *repeat {
		again := &repeat{until: at.Add(time.Hour)}
		r.keep(asker{podUID: fmt.Sprintf("pod %d", i%2)}, []byte(fmt.Sprintf("request %d", i/2)), again)
		return again
	}
	held := func() int { return len(r.of) }
	keep(0)
	for i := range 2 * maxRepeats {
		keep(i)
	}
	if held() != maxRepeats {
		t.Errorf("%d answers are kept, want %d", held(), maxRepeats)
	}
	if newer := keep(1); r.find(asker{podUID: "pod 1"}, []byte("request 0")) != newer || held() != maxRepeats {
		t.Error("an answer does not take the place of the one before")
	}
	at = at.Add(time.Second)
	if again := r.find(asker{podUID: "pod 0"}, []byte("request 0")); again != nil {
		t.Error("an answer is given a second later")
	}
	keep(0)
	if held() != 1 {
		t.Errorf("%d answers are kept in the next second, want 1", held())
	}
}

func TestASecondEndsWithTheClocksAndIsNotProlongedWhereThatIsPutBack(t *testing.T) {
	start := time.Now()
	end := endOfSecond(start)
	if end.Nanosecond() != 0 || end.Unix() != start.Unix()+1 {
		t.Errorf("the second of %s ends at %s", start, end)
	}
	if !strings.Contains(end.String(), " m=") {
		t.Errorf("%s has no monotonic clock reading, by which it would be compared", end)
	}
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
