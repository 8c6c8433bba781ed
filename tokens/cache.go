package tokens

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"gke-metadata-emulator/identity"
)

const (
	// minLife is what callers get at least while upstream is healthy. Google's
	// libraries refresh with 3:45 to 5:00 minutes left, and ask at every call
	// below that.
	minLife = 5 * time.Minute
	// minIDLife: Go's library counts an hour from the receipt of an ID token.
	minIDLife = 55 * time.Minute
	// maxBackoff is the longest pause between two failed refreshes.
	maxBackoff = time.Minute
)

// key is what two requests must have in common to share a token. Whatever
// decides what a token may do stands here.
type key struct {
	ksa      string // UID
	gsa      string
	scopes   string
	audience string // of an ID token, as are the next two
	format   string
	licenses bool
}

// String tells two keys apart whatever bytes the callers put into them.
func (k key) String() string {
	return fmt.Sprintf("%q %q %q %q %q %t", k.ksa, k.gsa, k.scopes, k.audience, k.format, k.licenses)
}

func accessKey(w identity.Workload, scopes Scopes) key {
	return key{ksa: w.KSA.UID, gsa: w.GSA, scopes: fmt.Sprintf("%q", scopes)}
}

func idKey(w identity.Workload, r IDTokenRequest) key {
	return key{ksa: w.KSA.UID, gsa: w.GSA, audience: r.Audience, format: r.Format, licenses: r.Licenses}
}

// cache keeps tokens and renews them before they are short: a request that comes
// when less than a third of the life is left is answered with the old token and
// starts the renewal. When upstream fails the old token is served until it
// expires for real.
type cache struct {
	next    Source
	now     func() time.Time
	flights flights[Token]
	metrics *metrics

	mu      sync.Mutex
	entries *simplelru.LRU[key, *entry]
}

type entry struct {
	token    Token
	life     time.Duration // when it was minted
	renewAt  time.Time
	renewing bool

	// Of the renewals that failed since.
	failures  int
	failure   error     // the last one
	notBefore time.Time // the next attempt
}

// least is the life that callers must get of this token. A token that came with
// hardly more is used for two thirds of it all the same.
func (e *entry) least(wanted time.Duration) time.Duration {
	if wanted > e.life*14/15 {
		return e.life / 3
	}
	return wanted
}

func newCache(next Source, size int, now func() time.Time, tasks *tasks, m *metrics) (*cache, error) {
	entries, err := simplelru.NewLRU[key, *entry](size, nil)
	if err != nil {
		return nil, err
	}
	return &cache{next: next, now: now, flights: flights[Token]{tasks: tasks}, metrics: m, entries: entries}, nil
}

// AccessToken implements [Source].
func (c *cache) AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	return c.get(ctx, accessKey(w, scopes), minLife, func(ctx context.Context) (Token, error) {
		return c.next.AccessToken(ctx, w, scopes)
	})
}

// IDToken implements [Source].
func (c *cache) IDToken(ctx context.Context, w identity.Workload, request IDTokenRequest) (Token, error) {
	return c.get(ctx, idKey(w, request), minIDLife, func(ctx context.Context) (Token, error) {
		return c.next.IDToken(ctx, w, request)
	})
}

type mintFunc func(context.Context) (Token, error)

func (c *cache) get(ctx context.Context, k key, wanted time.Duration, mint mintFunc) (Token, error) {
	now := c.now()
	c.mu.Lock()
	e, found := c.entries.Get(k)
	if !found || !now.Before(e.token.Expiry) {
		c.mu.Unlock()
		c.metrics.cache.WithLabelValues("miss").Inc()
		return c.renew(ctx, k, mint)
	}
	old, err := e.token, e.failure
	short := old.Expiry.Sub(now) < e.least(wanted)
	waiting := now.Before(e.notBefore)
	due := !now.Before(e.renewAt) && !e.renewing && !waiting && !short
	e.renewing = e.renewing || due
	c.mu.Unlock()

	switch {
	case short:
		c.metrics.cache.WithLabelValues("short").Inc()
		if !waiting {
			var token Token
			if token, err = c.renew(ctx, k, mint); err == nil {
				return token, nil
			}
		}
		if permanent(err) {
			return Token{}, err
		}
	case due:
		c.metrics.cache.WithLabelValues("renewing").Inc()
		c.flights.start(k.String(), c.kept(k, mint))
	default:
		c.metrics.cache.WithLabelValues("hit").Inc()
	}
	return old, nil
}

// renew mints a token and waits for it.
func (c *cache) renew(ctx context.Context, k key, mint mintFunc) (Token, error) {
	token, err := c.flights.do(ctx, k.String(), c.kept(k, mint))
	if err != nil && ctx.Err() != nil {
		// The flight goes on, but those who come next need not wait for it, too.
		c.failed(k, err)
	}
	return token, err
}

// kept is mint with its outcome recorded, whether or not anybody waits for it.
func (c *cache) kept(k key, mint mintFunc) mintFunc {
	return func(ctx context.Context) (Token, error) {
		token, err := mint(ctx)
		if err != nil {
			c.failed(k, err)
		} else {
			c.keep(k, token)
		}
		return token, err
	}
}

func (c *cache) keep(k key, token Token) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, found := c.entries.Peek(k); found && e.token.Value() == token.Value() {
		// The source is a cache itself, and has only begun to renew.
		e.renewing, e.failures, e.failure, e.notBefore = false, 0, nil, time.Time{}
		return
	}
	life := token.Expiry.Sub(now)
	jitter := time.Duration(rand.Int64N(int64(max(life/10, 1))))
	c.entries.Add(k, &entry{token: token, life: life, renewAt: now.Add(life*2/3 - jitter)})
}

func (c *cache) failed(k key, err error) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	e, found := c.entries.Peek(k)
	if !found {
		return
	}
	e.renewing, e.failure = false, err
	if now.Before(e.notBefore) {
		return // one attempt, of which several told
	}
	e.failures++
	backoff := min(time.Second<<min(e.failures, 6), maxBackoff)
	e.notBefore = now.Add(backoff/2 + rand.N(backoff/2))
}
