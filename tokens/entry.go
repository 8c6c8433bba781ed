package tokens

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"gke-metadata-emulator/identity"
)

// mintFunc asks the next source for what a key stands for, for a workload that may
// have it.
type mintFunc func(context.Context, key, identity.Workload) (Token, error)

// entry is what a cache knows of one key: a token, why there is none, or an old
// token and why there is no new one.
type entry struct {
	w      identity.Workload // for whom it is minted: who asked last, while it is here
	asked  time.Time         // when somebody asked last
	absent time.Time         // since when none of the KSA's pods is here; zero while one is

	token    Token         // of no life where there never was one
	pod      string        // UID of that for which it was minted
	life     time.Duration // when it was minted
	renewAt  time.Time
	renewing bool
	timer    *time.Timer // to renewAt

	// Of the attempts that failed since.
	failures  int
	failure   error     // the last one
	notBefore time.Time // the next attempt
}

// stop ends what would renew an entry that is gone.
func (e *entry) stop() {
	if e.timer != nil {
		e.timer.Stop()
	}
}

// least is the life that callers must get of this token. A token that came with
// hardly more is used for two thirds of it all the same.
func (e *entry) least(wanted time.Duration) time.Duration {
	if wanted > e.life*14/15 {
		return e.life / 3
	}
	return wanted
}

// minted takes a token that came now.
func (e *entry) minted(token Token, now time.Time) {
	e.renewing, e.failures, e.failure, e.notBefore = false, 0, nil, time.Time{}
	if e.token.Value() == token.Value() {
		// The source is a cache itself, and has only begun to renew.
		pause := max(minPause, e.life/60)
		e.renewAt = now.Add(pause/2 + rand.N(pause/2))
		return
	}
	e.token, e.life = token, token.Expiry.Sub(now)
	e.renewAt = renewal(now, e.life)
}

// renewal is when a token of that time is renewed: at a quarter of its life, so that
// three quarters are left when upstream fails; jittered, as what was minted at once need
// not be renewed at once.
func renewal(minted time.Time, life time.Duration) time.Time {
	early := max(life/4, 1)
	return minted.Add(early - rand.N(max(early*2/5, 1)))
}

// failed takes an attempt that ended in err now.
func (e *entry) failed(err error, now time.Time) {
	e.renewing = false
	e.failure = remembered(err)
	e.failures++
	e.notBefore = now.Add(e.pause(err))
	if !permanent(err) && retryAfterOf(err) == 0 && e.notBefore.After(e.token.Expiry) {
		// Who has no token waits for the next attempt, and shorter.
		if soon := latest(e.token.Expiry, now.Add(refusalLife)); soon.Before(e.notBefore) {
			e.notBefore = soon
		}
	}
	e.renewAt = e.notBefore
	if permanent(err) {
		// Who has a token need not know as soon as who has none.
		e.renewAt = now.Add(maxPause/2 + rand.N(maxPause/2))
		if until := believedUntil(err); until.After(now) && until.Before(e.notBefore) {
			e.notBefore = until
		}
	}
}

// pause is how long the next attempt waits.
func (e *entry) pause(err error) time.Duration {
	if permanent(err) {
		return refusalLife
	}
	backoff := min(minPause<<min(e.failures-1, 10), maxPause)
	backoff = backoff/2 + rand.N(backoff/2)
	return max(backoff, min(retryAfterOf(err), maxRetryAfter))
}

// due is when something is to be done about the entry although nobody asks: a token
// is renewed, and a failure is forgotten when the pause that it grew is long over.
func (e *entry) due() time.Time {
	if e.renewAt.Before(e.token.Expiry) {
		return e.renewAt
	}
	return latest(e.token.Expiry, e.notBefore.Add(maxPause))
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// waiting is how long it is until the next attempt.
func (e *entry) waiting(now time.Time) time.Duration { return max(0, e.notBefore.Sub(now)) }

// remembered marks an error as one that was known before it was asked for.
func remembered(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	known := *e
	known.cached = true
	return &known
}
