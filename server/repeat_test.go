package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
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
