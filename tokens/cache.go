package tokens

import (
	"context"
	"errors"
	"sync"
	"time"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/change"
)

const (
	// minLifetime is the lifetime that callers get at least while upstream is healthy.
	// Google's libraries refresh with 3:45 to 5:00 minutes left, and make a request for
	// every call below that.
	minLifetime = 5 * time.Minute
	// minIDLifetime: Go's library counts an hour from the receipt of an ID token.
	minIDLifetime = 55 * time.Minute

	// refusalTTL is how long a refusal is cached. It is short, so a fix takes effect soon.
	refusalTTL = 5 * time.Second
	// minRetryDelay and maxRetryDelay are the shortest and longest delay before a retry.
	minRetryDelay, maxRetryDelay = 500 * time.Millisecond, time.Minute
	// maxRetryAfter bounds the Retry-After of Google's answers.
	maxRetryAfter = 5 * time.Minute

	// idleTimeout is how long after its last request a token is renewed in the
	// background: the libraries come back after three quarters of an hour at the earliest.
	idleTimeout = 75 * time.Minute
	// maxRenewedAhead is how many tokens of a KSA are renewed in the background, the
	// last used ones.
	maxRenewedAhead = 16
)

// cache keeps tokens and renews them long before they become short: in the background
// while they are in use, or at a request, which is answered with the old token. If
// upstream fails, the old token is served until it expires. Failures are cached, too,
// but briefly.
type cache struct {
	next Source
	*store
}

func newCache(next Source, name string, size int, now func() time.Time, background *background, m *metrics) *cache {
	c := &cache{next: next}
	c.store = newStore(name, c.mint, size, now, background, m)
	return c
}

func (c *cache) mint(ctx context.Context, k key, w identity.Workload) (Token, error) {
	if k.id {
		return c.next.IDToken(ctx, w, IDTokenRequest{Audience: k.audience, Format: k.format, Licenses: k.licenses})
	}
	return c.next.AccessToken(ctx, w, splitScopes(k.scopes))
}

// retryFor makes the cache retry transient failures until the caller's deadline, or for
// wait if the caller has none. Only the outermost cache does: the caches behind it leave
// retries to it.
func (c *cache) retryFor(wait time.Duration) *cache {
	c.retries, c.wait = true, wait
	return c
}

// AccessToken implements [Source].
func (c *cache) AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	k := accessKey(w, scopes)
	if token, ok := c.hit(k, &w, minLifetime); ok {
		return token, nil
	}
	return c.get(ctx, k, minLifetime, w)
}

// IDToken implements [Source].
func (c *cache) IDToken(ctx context.Context, w identity.Workload, request IDTokenRequest) (Token, error) {
	k := idKey(w, request)
	if token, ok := c.hit(k, &w, minIDLifetime); ok {
		return token, nil
	}
	return c.get(ctx, k, minIDLifetime, w)
}

// store is the state that caches of all kinds have in common.
type store struct {
	name    string
	mint    mintFunc
	retries bool          // until the caller's deadline; set before the first request
	wait    time.Duration // of a caller without a deadline; set before the first request
	now     func() time.Time
	flights flights[Token]
	counts  cacheCounts
	changed *change.Signal // raised when tokens are added or dropped; set before the first request

	mu       sync.Mutex
	entries  *fairLRU         // guarded by mu, and so are the entries' fields
	attempts map[key]*attempt // in flight; guarded by mu, and so are the attempts' fields
}

// attempt is a call of the next source.
type attempt struct {
	workload  identity.Workload
	discarded bool // its result must not be cached
	hanging   bool // a caller has given up waiting for it
}

// newStore makes a store that does not retry.
func newStore(name string, mint mintFunc, size int, now func() time.Time, background *background, m *metrics) *store {
	return &store{
		name: name, mint: mint, wait: upstreamTimeout, now: now, flights: flights[Token]{background: background}, counts: m.cacheCounts(name),
		changed: new(change.Signal), entries: newFairLRU(size), attempts: map[key]*attempt{},
	}
}

// hit answers requests that need no attempt now, which are nearly all. It must not
// allocate.
func (c *store) hit(k key, w *identity.Workload, lifetime time.Duration) (Token, bool) {
	now := c.now()
	c.mu.Lock()
	e := c.entries.get(k)
	if e == nil || !now.Before(e.renewAt) || e.token.Expiry.Sub(now) < e.minRemaining(lifetime) {
		c.mu.Unlock()
		return Token{}, false
	}
	e.lastUse, e.workload = now, *w
	token := e.token
	c.mu.Unlock()
	c.counts.hit.Inc()
	token.cached = true
	return token, true
}

// get answers the other requests.
func (c *store) get(ctx context.Context, k key, lifetime time.Duration, w identity.Workload) (Token, error) {
	now := c.now()
	c.mu.Lock()
	e := c.entries.get(k)
	if e == nil || !now.Before(e.token.Expiry) {
		var failure error
		if e != nil {
			if e.retryIn(now) > 0 {
				failure = e.lastFailure
			}
			e.lastUse, e.workload = now, w
		}
		c.mu.Unlock()
		if permanent(failure) {
			c.counts.refused.Inc()
			return Token{}, failure
		}
		c.counts.miss.Inc()
		return c.retryUntilDeadline(ctx, k, w)
	}
	e.lastUse, e.workload = now, w
	old, err := e.token, e.lastFailure
	old.cached = true
	short := old.Expiry.Sub(now) < e.minRemaining(lifetime)
	inFlight := c.attempts[k]
	wait := e.retryIn(now) > 0 || inFlight != nil && inFlight.hanging
	due := !now.Before(e.renewAt) && !e.renewing && !wait && !short
	e.renewing = e.renewing || due
	c.mu.Unlock()

	switch {
	case short:
		c.counts.short.Inc()
		if !wait {
			ctx, cancel := c.withDeadline(ctx)
			defer cancel()
			var token Token
			if token, err = c.renew(ctx, k, w, old.Expiry); err == nil {
				return token, nil
			}
		}
		if permanent(err) {
			return Token{}, err
		}
	case due:
		c.counts.renewing.Inc()
		c.flights.start(k.String(), c.mintAndRecord(k, w, old.Expiry))
	default:
		c.counts.hit.Inc()
	}
	return old, nil
}

// withDeadline bounds how long a caller waits: until its own deadline, or for c.wait if
// it has none.
func (c *store) withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	wait := c.wait
	if _, found := ctx.Deadline(); found {
		wait = upstreamTimeout
	}
	return context.WithTimeout(ctx, wait)
}

// retryUntilDeadline mints a token that is not cached. It retries until the token is
// there, is refused permanently, or cannot arrive before the caller's deadline. Of all
// callers one makes an attempt at a time, and none before upstream accepts the next.
func (c *store) retryUntilDeadline(ctx context.Context, k key, w identity.Workload) (Token, error) {
	ctx, cancel := c.withDeadline(ctx)
	defer cancel()
	deadline, _ := ctx.Deadline()
	var last error
	for {
		delay, failure := c.lastFailure(k)
		switch {
		case delay == 0 || c.flights.background.ctx.Err() != nil:
			token, err := c.renew(ctx, k, w, time.Time{})
			if err == nil || permanent(err) {
				return token, err
			}
			if last == nil || ctx.Err() == nil && !errors.Is(err, errClosed) {
				last = err // the cause says more than the end of the deadline
			}
			delay, _ = c.lastFailure(k)
			delay = max(delay, minRetryDelay/2)
		case permanent(failure):
			return Token{}, failure
		case last == nil:
			last = failure
		}
		if errors.Is(last, errClosed) {
			return Token{}, last
		}
		if !c.retries || time.Until(deadline) < delay+minRetryDelay/2 {
			return Token{}, withRetryAfter(last, delay)
		}
		select {
		case <-time.After(delay):
			c.counts.retries.Inc()
		case <-ctx.Done():
			return Token{}, withRetryAfter(last, delay)
		case <-c.flights.background.ctx.Done():
			return Token{}, last
		}
	}
}

// lastFailure returns why a token is missing, and the delay before the next attempt.
func (c *store) lastFailure(k key) (delay time.Duration, err error) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries.peek(k)
	if e == nil {
		return 0, nil
	}
	return e.retryIn(now), e.lastFailure
}

// forgetRefusals lets the next request for a token of a KSA try again at once.
func (c *store) forgetRefusals(ksaUID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.entries.all() {
		if k.ksa == ksaUID && permanent(e.lastFailure) {
			e.notBefore = time.Time{}
		}
	}
}

// renew mints a token and waits for it until ctx ends.
func (c *store) renew(ctx context.Context, k key, w identity.Workload, oldExpiry time.Time) (Token, error) {
	token, err := c.flights.do(ctx, k.String(), c.mintAndRecord(k, w, oldExpiry))
	if err != nil && ctx.Err() != nil {
		c.markHanging(k)
	}
	return token, err
}

// markHanging marks an attempt that a caller has given up. It goes on, but later callers
// that have an old token do not wait for it.
func (c *store) markHanging(k key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if inFlight := c.attempts[k]; inFlight != nil {
		inFlight.hanging = true
	}
}

// mintAndRecord returns a call that mints and records the outcome, whether or not a
// caller still waits for it. The call does nothing if a flight that has just ended
// brought a token that outlives the old one.
func (c *store) mintAndRecord(k key, w identity.Workload, oldExpiry time.Time) func(context.Context) (Token, error) {
	return func(ctx context.Context) (Token, error) {
		a := &attempt{workload: w}
		now := c.now()
		c.mu.Lock()
		if e := c.entries.peek(k); e != nil && e.token.Expiry.After(oldExpiry) && e.token.Expiry.After(now) && !e.renewing {
			token := e.token
			c.mu.Unlock()
			return token, nil
		}
		c.attempts[k] = a
		c.mu.Unlock()
		token, err := c.mint(ctx, k, w)
		now = c.now()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.attempts[k] == a {
			delete(c.attempts, k)
		}
		if !a.discarded {
			c.record(k, w, now, token, err)
		}
		return token, err
	}
}

// record stores the outcome of an attempt. The caller holds mu.
func (c *store) record(k key, w identity.Workload, now time.Time, token Token, err error) {
	e := c.entries.peek(k)
	if e == nil {
		if uncached(err) {
			return
		}
		e = &entry{workload: w, lastUse: now}
		c.insert(k, e)
	}
	if err == nil {
		e.succeeded(token, now)
		e.podUID = w.Pod.UID
		c.changed.Raise()
	} else {
		e.failed(err, now)
	}
	e.timer.Reset(e.nextWake().Sub(now))
}

// insert adds an entry whose key is not there. The caller holds mu and then resets the
// entry's timer.
func (c *store) insert(k key, e *entry) {
	e.timer = time.AfterFunc(time.Hour, func() { c.renewAhead(k, e) })
	c.entries.add(k, e)
}

// renewAhead renews a token in the background when it is due. It leaves out tokens that
// are idle, that no workload on the node may have, and all but the last used tokens of a
// KSA.
func (c *store) renewAhead(k key, e *entry) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.entries.peek(k) != e || e.renewing:
	case now.Before(e.nextWake()):
		e.timer.Reset(e.nextWake().Sub(now))
	case !now.Before(e.token.Expiry):
		c.entries.remove(k)
	case now.Sub(e.lastUse) > idleTimeout || !e.absentSince.IsZero() || !c.entries.isRecent(k, maxRenewedAhead):
		// The token is kept for later requests until it has expired.
		e.timer.Reset(e.token.Expiry.Sub(now))
	default:
		e.renewing = true
		c.counts.ahead.Inc()
		c.flights.start(k.String(), c.mintAndRecord(k, e.workload, e.token.Expiry))
	}
}

// drop removes the entries and discards the attempts that match. A discarded attempt
// still answers its callers. e is nil for an attempt.
func (c *store) drop(matches func(k key, e *entry, w identity.Workload) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.entries.all() {
		if matches(k, e, e.workload) {
			c.entries.remove(k)
			c.changed.Raise()
		}
	}
	for k, a := range c.attempts {
		if matches(k, nil, a.workload) {
			a.discarded = true
			delete(c.attempts, k)
			c.flights.group.Forget(k.String())
		}
	}
}
