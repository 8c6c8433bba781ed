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
	// minLife is what callers get at least while upstream is healthy. Google's
	// libraries refresh with 3:45 to 5:00 minutes left, and ask at every call
	// below that.
	minLife = 5 * time.Minute
	// minIDLife: Go's library counts an hour from the receipt of an ID token.
	minIDLife = 55 * time.Minute

	// refusalLife is how long a refusal is believed: somebody is about to mend it.
	refusalLife = 5 * time.Second
	// minPause and maxPause are between two attempts of which the first failed,
	// before and after many failures.
	minPause, maxPause = 500 * time.Millisecond, time.Minute
	// maxRetryAfter bounds what Google may ask for.
	maxRetryAfter = 5 * time.Minute

	// idle is how long after the last request tokens are renewed ahead: the
	// libraries ask again after three quarters of an hour at the earliest.
	idle = 75 * time.Minute
	// renewedAhead is how many tokens of a KSA are, those asked for last.
	renewedAhead = 16
	// lingering is how long the tokens of a KSA stay whose last pod here has gone:
	// another often comes at once.
	lingering = time.Minute
)

// cache keeps tokens and renews them long before they are short: ahead, while
// somebody asks now and then, or at a request, which is answered with the old token.
// When upstream fails the old token is served until it expires for real. Why there
// is no token is kept, too, but briefly.
type cache struct {
	next Source
	*store
}

func newCache(next Source, name string, size int, now func() time.Time, tasks *tasks, m *metrics) *cache {
	c := &cache{next: next}
	c.store = newStore(name, c.mint, size, now, tasks, m)
	return c
}

func (c *cache) mint(ctx context.Context, k key, w identity.Workload) (Token, error) {
	if k.id {
		return c.next.IDToken(ctx, w, IDTokenRequest{Audience: k.audience, Format: k.format, Licenses: k.licenses})
	}
	return c.next.AccessToken(ctx, w, split(k.scopes))
}

// outermost makes the cache insist.
func (c *cache) outermost() *cache {
	c.insists = true
	return c
}

// AccessToken implements [Source].
func (c *cache) AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	k := accessKey(w, scopes)
	if token, ok := c.hit(k, &w, minLife); ok {
		return token, nil
	}
	return c.get(ctx, k, minLife, w)
}

// IDToken implements [Source].
func (c *cache) IDToken(ctx context.Context, w identity.Workload, request IDTokenRequest) (Token, error) {
	k := idKey(w, request)
	if token, ok := c.hit(k, &w, minIDLife); ok {
		return token, nil
	}
	return c.get(ctx, k, minIDLife, w)
}

// store is what caches of all kinds have in common.
type store struct {
	name    string
	mint    mintFunc
	insists bool // for who waits; what stands behind another store leaves that to it
	now     func() time.Time
	flights flights[Token]
	counts  cacheCounts
	changed *change.Signal // raised when there are other tokens

	mu       sync.Mutex
	entries  *shelves
	attempts map[key]*attempt // under way
}

// attempt is a call of the next source.
type attempt struct {
	w     identity.Workload
	void  bool // what it brings is no longer wanted
	hangs bool // somebody has given up waiting for it
}

// newStore makes one that does not insist.
func newStore(name string, mint mintFunc, size int, now func() time.Time, tasks *tasks, m *metrics) *store {
	return &store{name: name, mint: mint, now: now, flights: flights[Token]{tasks: tasks}, counts: m.cacheCounts(name), changed: new(change.Signal), entries: newShelves(size), attempts: map[key]*attempt{}}
}

// hit answers what needs no attempt now. Nearly all requests end here.
func (c *store) hit(k key, w *identity.Workload, wanted time.Duration) (Token, bool) {
	now := c.now()
	c.mu.Lock()
	e := c.entries.get(k)
	if e == nil || !now.Before(e.renewAt) || e.token.Expiry.Sub(now) < e.least(wanted) {
		c.mu.Unlock()
		return Token{}, false
	}
	e.asked, e.w = now, *w
	token := e.token
	c.mu.Unlock()
	c.counts.hit.Inc()
	token.cached = true
	return token, true
}

// get answers what does.
func (c *store) get(ctx context.Context, k key, wanted time.Duration, w identity.Workload) (Token, error) {
	now := c.now()
	c.mu.Lock()
	e := c.entries.get(k)
	if e == nil || !now.Before(e.token.Expiry) {
		known := error(nil)
		if e != nil {
			if e.w.QuotaProject != w.QuotaProject {
				e.notBefore = time.Time{} // what was refused was another thing
			}
			if e.waiting(now) > 0 {
				known = e.failure
			}
			e.asked, e.w = now, w
		}
		c.mu.Unlock()
		if permanent(known) {
			c.counts.refused.Inc()
			return Token{}, known
		}
		c.counts.miss.Inc()
		return c.insist(ctx, k, w)
	}
	e.asked, e.w = now, w
	old, err := e.token, e.failure
	old.cached = true
	short := old.Expiry.Sub(now) < e.least(wanted)
	under := c.attempts[k]
	waiting := e.waiting(now) > 0 || under != nil && under.hangs
	due := !now.Before(e.renewAt) && !e.renewing && !waiting && !short
	e.renewing = e.renewing || due
	c.mu.Unlock()

	switch {
	case short:
		c.counts.short.Inc()
		if !waiting {
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
		c.flights.start(k.String(), c.kept(k, w, old.Expiry))
	default:
		c.counts.hit.Inc()
	}
	return old, nil
}

// insist asks for a token that is not there until it comes, is refused for good, or
// cannot come before the caller's deadline. However many insist, one asks at a time,
// and none before upstream wants to be asked again.
func (c *store) insist(ctx context.Context, k key, w identity.Workload) (Token, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	var last error
	for {
		pause, known := c.known(k)
		switch {
		case pause == 0 || c.flights.tasks.life.Err() != nil:
			token, err := c.renew(ctx, k, w, time.Time{})
			if err == nil || permanent(err) {
				return token, err
			}
			if last == nil || ctx.Err() == nil && !errors.Is(err, errClosed) {
				last = err // that the time was up says less than why
			}
			pause, _ = c.known(k)
			pause = max(pause, minPause/2)
		case permanent(known):
			return Token{}, known
		case last == nil:
			last = known
		}
		if errors.Is(last, errClosed) {
			return Token{}, last
		}
		if !c.insists || time.Until(deadline) < pause+minPause/2 {
			return Token{}, after(last, pause)
		}
		select {
		case <-time.After(pause):
			c.counts.retries.Inc()
		case <-ctx.Done():
			return Token{}, after(last, pause)
		case <-c.flights.tasks.life.Done():
			return Token{}, last
		}
	}
}

// known is for how long nobody is to ask for what has no token, and why it has none.
func (c *store) known(k key) (pause time.Duration, err error) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries.peek(k)
	if e == nil {
		return 0, nil
	}
	return e.waiting(now), e.failure
}

// renew mints a token and waits for it.
func (c *store) renew(ctx context.Context, k key, w identity.Workload, old time.Time) (Token, error) {
	token, err := c.flights.do(ctx, k.String(), c.kept(k, w, old))
	if err != nil && ctx.Err() != nil {
		c.gaveUp(k)
	}
	return token, err
}

// gaveUp notes that an attempt hangs. It goes on, but those who come next and have an
// old token do not wait for it, too.
func (c *store) gaveUp(k key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if under := c.attempts[k]; under != nil {
		under.hangs = true
	}
}

// kept is mint with its outcome recorded, whether or not anybody waits for it. Where a
// flight that has just landed brought a token that lives longer than the old one, there
// is nothing to do.
func (c *store) kept(k key, w identity.Workload, old time.Time) func(context.Context) (Token, error) {
	return func(ctx context.Context) (Token, error) {
		a := &attempt{w: w}
		now := c.now()
		c.mu.Lock()
		if e := c.entries.peek(k); e != nil && e.token.Expiry.After(old) && e.token.Expiry.After(now) && !e.renewing {
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
		if !a.void {
			c.record(k, w, now, token, err)
		}
		return token, err
	}
}

// record writes down the outcome of an attempt.
func (c *store) record(k key, w identity.Workload, now time.Time, token Token, err error) {
	e := c.entries.peek(k)
	if e == nil {
		if forgettable(err) {
			return
		}
		e = &entry{w: w, asked: now}
		c.enter(k, e)
	}
	if err == nil {
		e.minted(token, now)
		e.pod = w.Pod.UID
		c.changed.Raise()
	} else {
		e.failed(err, now)
	}
	e.timer.Reset(e.due().Sub(now))
}

// enter puts an entry that is not there. Its timer is still to be set.
func (c *store) enter(k key, e *entry) {
	e.timer = time.AfterFunc(time.Hour, func() { c.ahead(k, e) })
	c.entries.add(k, e)
}

// ahead renews a token at its time although nobody asks just now: but not what
// nobody has asked for in a while, nor what nobody here may have, nor more than a
// few tokens of a KSA.
func (c *store) ahead(k key, e *entry) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.entries.peek(k) != e || e.renewing:
	case now.Before(e.due()):
		e.timer.Reset(e.due().Sub(now))
	case !now.Before(e.token.Expiry):
		c.entries.remove(k)
	case now.Sub(e.asked) > idle || !e.absent.IsZero() || !c.entries.among(renewedAhead, k):
		// Kept for who comes, until it has expired.
		e.timer.Reset(e.token.Expiry.Sub(now))
	default:
		e.renewing = true
		c.counts.ahead.Inc()
		c.flights.start(k.String(), c.kept(k, e.w, e.token.Expiry))
	}
}

// drop removes what gone says of, also what is under way: it answers those who wait
// for it and is not kept.
func (c *store) drop(gone func(k key, e *entry, w identity.Workload) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.entries.all() {
		if gone(k, e, e.w) {
			c.entries.remove(k)
			c.changed.Raise()
		}
	}
	for k, a := range c.attempts {
		if gone(k, nil, a.w) {
			a.void = true
			delete(c.attempts, k)
			c.flights.group.Forget(k.String())
		}
	}
}
