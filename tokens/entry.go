package tokens

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"gke-metadata-emulator/identity"
)

// mintFunc requests the token of a key from the next source, for a workload that may
// have it.
type mintFunc func(context.Context, key, identity.Workload) (Token, error)

// entry is the state of one key in a cache: a token, the failure to get one, or an old
// token and the failure to renew it. The mutex of the store guards all fields.
type entry struct {
	workload    identity.Workload // that the next token is minted for: the last to request it that is still on the node
	lastUse     time.Time
	absentSince time.Time // when the last of the KSA's pods left the node; zero while one is there

	token    Token         // the zero token if there never was one
	podUID   string        // of the pod that the token was minted for
	lifetime time.Duration // of the token when it was minted
	renewAt  time.Time
	renewing bool
	timer    *time.Timer // to nextWake

	// Of the attempts that failed since.
	failures    int
	lastFailure error
	notBefore   time.Time // of the next attempt
}

// stop ends the timer of an entry that has been removed.
func (e *entry) stop() {
	if e.timer != nil {
		e.timer.Stop()
	}
}

// minRemaining is the lifetime that callers must get of this token. A token that was
// minted with hardly more is used for two thirds of its lifetime nevertheless.
func (e *entry) minRemaining(lifetime time.Duration) time.Duration {
	if lifetime > e.lifetime*14/15 {
		return e.lifetime / 3
	}
	return lifetime
}

// succeeded records a token that was minted now.
func (e *entry) succeeded(token Token, now time.Time) {
	e.renewing, e.failures, e.lastFailure, e.notBefore = false, 0, nil, time.Time{}
	if e.token.Value() == token.Value() {
		// The source is a cache itself, and has only started its own renewal.
		delay := max(minRetryDelay, e.lifetime/60)
		e.renewAt = now.Add(delay/2 + rand.N(delay/2))
		return
	}
	e.token, e.lifetime = token, token.Expiry.Sub(now)
	e.renewAt = renewalTime(now, e.lifetime)
}

// renewalTime is a quarter of the lifetime after a token was minted, so three quarters
// are left if upstream fails. It is jittered, as tokens that were minted together need
// not be renewed together.
func renewalTime(minted time.Time, lifetime time.Duration) time.Time {
	quarter := max(lifetime/4, 1)
	return minted.Add(quarter - rand.N(max(quarter*2/5, 1)))
}

// failed records an attempt that ended with err now.
func (e *entry) failed(err error, now time.Time) {
	e.renewing = false
	e.lastFailure = asCached(err)
	e.failures++
	e.notBefore = now.Add(e.retryDelay(err))
	if !permanent(err) && retryAfterOf(err) == 0 && e.notBefore.After(e.token.Expiry) {
		// Callers without a token wait for the next attempt, so it is made earlier.
		if soon := latest(e.token.Expiry, now.Add(refusalTTL)); soon.Before(e.notBefore) {
			e.notBefore = soon
		}
	}
	e.renewAt = e.notBefore
	if permanent(err) {
		// Callers with a token can learn of the fix later than callers without.
		e.renewAt = now.Add(maxRetryDelay/2 + rand.N(maxRetryDelay/2))
		if until := validUntil(err); until.After(now) && until.Before(e.notBefore) {
			e.notBefore = until
		}
	}
}

// retryDelay is the delay from a failure to the next attempt.
func (e *entry) retryDelay(err error) time.Duration {
	if permanent(err) {
		return refusalTTL
	}
	backoff := min(minRetryDelay<<min(e.failures-1, 10), maxRetryDelay)
	backoff = backoff/2 + rand.N(backoff/2)
	return max(backoff, min(retryAfterOf(err), maxRetryAfter))
}

// nextWake is when the timer is due: to renew the token, or to forget a failure whose
// retry delay is long over.
func (e *entry) nextWake() time.Time {
	if e.renewAt.Before(e.token.Expiry) {
		return e.renewAt
	}
	return latest(e.token.Expiry, e.notBefore.Add(maxRetryDelay))
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// retryIn is the time until the next attempt is allowed; 0 if it is allowed now.
func (e *entry) retryIn(now time.Time) time.Duration { return max(0, e.notBefore.Sub(now)) }

// asCached marks an error as known before the request.
func asCached(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	cached := *e
	cached.cached = true
	return &cached
}
