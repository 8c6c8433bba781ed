package tokens

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
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
	return key{ksa: w.KSA.UID, gsa: w.GSA, scopes: strings.Join(scopes, " ")}
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
	tasks   *tasks
	metrics *metrics

	mu      sync.Mutex
	entries *simplelru.LRU[key, *entry]
}

type entry struct {
	token     Token
	life      time.Duration // when it was minted
	renewAt   time.Time
	renewing  bool
	failures  int
	notBefore time.Time // the next attempt to renew, after a failure
}

func newCache(next Source, size int, now func() time.Time, tasks *tasks, m *metrics) (*cache, error) {
	entries, err := simplelru.NewLRU[key, *entry](size, nil)
	if err != nil {
		return nil, err
	}
	return &cache{next: next, now: now, tasks: tasks, metrics: m, entries: entries}, nil
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

func (c *cache) get(ctx context.Context, k key, least time.Duration, mint mintFunc) (Token, error) {
	now := c.now()
	c.mu.Lock()
	e, found := c.entries.Get(k)
	if !found || !now.Before(e.token.Expiry) {
		c.mu.Unlock()
		c.metrics.cache.WithLabelValues("miss").Inc()
		return c.renew(ctx, k, mint)
	}
	old := e.token
	// A token that came with a short life is used for most of it all the same.
	short := old.Expiry.Sub(now) < min(least, e.life*11/12)
	due := !now.Before(e.renewAt) && !e.renewing && !now.Before(e.notBefore)
	if due && !short {
		e.renewing = true
	}
	waiting := now.Before(e.notBefore)
	c.mu.Unlock()

	switch {
	case short && !waiting:
		c.metrics.cache.WithLabelValues("short").Inc()
		token, err := c.renew(ctx, k, mint)
		var e *Error
		if err != nil && !(errors.As(err, &e) && e.Permanent()) {
			return old, nil
		}
		return token, err
	case due && !short:
		c.metrics.cache.WithLabelValues("renewing").Inc()
		if !c.tasks.start(func(ctx context.Context) { _, _ = c.renew(ctx, k, mint) }) {
			c.settle(k, Token{}, context.Canceled)
		}
	default:
		c.metrics.cache.WithLabelValues("hit").Inc()
	}
	return old, nil
}

func (c *cache) renew(ctx context.Context, k key, mint mintFunc) (Token, error) {
	token, err := mint(ctx)
	c.settle(k, token, err)
	return token, err
}

// settle records the outcome of a mint.
func (c *cache) settle(k key, token Token, err error) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	e, found := c.entries.Peek(k)
	switch {
	case err == nil && found && e.token.value == token.value:
		// One flight answered several callers.
		e.renewing, e.failures, e.notBefore = false, 0, time.Time{}
	case err == nil:
		life := token.Expiry.Sub(now)
		jitter := time.Duration(rand.Int64N(int64(max(life/10, 1))))
		c.entries.Add(k, &entry{token: token, life: life, renewAt: now.Add(life*2/3 - jitter)})
	case found:
		e.renewing = false
		e.failures++
		backoff := min(time.Second<<min(e.failures, 6), maxBackoff)
		e.notBefore = now.Add(backoff/2 + rand.N(backoff/2))
	}
}
