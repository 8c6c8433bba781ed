package tokens

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/identity"
)

func TestCache_HitNeedsNoUpstreamCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		for range 100 {
			if got := b.get().Value(); got != "token-1" {
				t.Fatalf("got %s", got)
			}
		}
		b.wantCalls(1)
		for result, want := range map[string]float64{"miss": 1, "hit": 99, "renewing": 0, "short": 0} {
			if got := cacheRequests(b.registry, result); got != want {
				t.Errorf("%v requests counted as %s, want %v", got, result, want)
			}
		}
	})
}

// A token is renewed at a quarter of its lifetime, with or without a request.
func TestCache_RenewsInBackgroundWhileServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		b.get()
		b.upstream.set(func(u *upstream) { u.latency = 3 * time.Second })
		time.Sleep(9*time.Minute - time.Second)
		b.wantToken("token-1")
		b.wantCalls(1)
		time.Sleep(6*time.Minute + 2*time.Second)
		b.wantCalls(2) // without a request
		time.Sleep(4 * time.Second)
		b.wantToken("token-2")
		b.wantCalls(2)
		if got := cacheRequests(b.registry, "ahead"); got != 1 {
			t.Errorf("%v renewals ahead", got)
		}
	})
}

// The old token is served while a renewal that a request started is in flight.
func TestCache_RequestStartsRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		b.upstream.set(func(u *upstream) { u.lifetime = 12 * time.Hour })
		b.get()
		b.upstream.set(func(u *upstream) { u.latency = 3 * time.Second })
		time.Sleep(4 * time.Hour) // without requests there is no renewal in the background
		b.wantCalls(1)
		for range 3 {
			b.wantToken("token-1")
			synctest.Wait()
			b.wantCalls(2)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		b.wantToken("token-2")
		b.wantCalls(2)
		if got := cacheRequests(b.registry, "renewing"); got != 1 {
			t.Errorf("%v requests counted as renewing", got)
		}
	})
}

func TestCache_RenewalsAreJittered(t *testing.T) {
	times := map[time.Duration]bool{}
	now := time.Now()
	for range 50 {
		var e entry
		e.succeeded(NewToken("t", now.Add(time.Hour)), now)
		after := e.renewAt.Sub(now)
		if after < 9*time.Minute || after > 15*time.Minute {
			t.Errorf("renewed %s after it was minted", after)
		}
		times[after] = true
	}
	if len(times) < 40 {
		t.Errorf("50 tokens are renewed at %d times", len(times))
	}
}

// A token lasts for long enough, however often a workload requests it.
func TestCache_ServesMinimumLifetime(t *testing.T) {
	for _, test := range []struct {
		kind     tokenKind
		lifetime time.Duration
		want     time.Duration
	}{
		{tokenKinds()[0], time.Hour, 5 * time.Minute},
		{tokenKinds()[0], 12 * time.Hour, 5 * time.Minute},
		{tokenKinds()[0], 6 * time.Minute, 5 * time.Minute},
		{tokenKinds()[1], time.Hour, 55 * time.Minute},
		{tokenKinds()[1], time.Hour - 3*time.Second, 55 * time.Minute}, // the response takes time
	} {
		for _, pause := range []time.Duration{time.Second, 37 * time.Second, 4 * time.Minute, 11 * time.Minute, 29 * time.Minute, 56 * time.Minute, 3 * time.Hour} {
			t.Run(fmt.Sprintf("%s of %s every %s", test.kind.name, test.lifetime, pause), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newCacheFixture(t)
					b.upstream.set(func(u *upstream) { u.lifetime = test.lifetime })
					for start := time.Now(); time.Since(start) < 14*time.Hour; time.Sleep(pause + time.Since(start)/1000) {
						token, err := test.kind.request(t.Context(), b.cache, linked)
						check(t, err)
						if left := time.Until(token.Expiry); left < test.want {
							t.Fatalf("after %s: %s left, want %s", time.Since(start), left, test.want)
						}
						synctest.Wait()
					}
				})
			})
		}
	}
}

// A KSA's own token passes two caches.
func TestCache_NestedCachesServeMinimumLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		outer := newCache(b.cache, "tokens", 64, time.Now, b.background, newMetrics(prometheus.NewRegistry()))
		request := func(pause time.Duration) {
			t.Helper()
			time.Sleep(pause)
			token, err := outer.AccessToken(t.Context(), unlinked, DefaultScopes())
			check(t, err)
			if left := time.Until(token.Expiry); left < minLifetime {
				t.Fatalf("%s left", left)
			}
			synctest.Wait()
		}
		request(0)
		request(54*time.Minute + 50*time.Second)
		request(15 * time.Second)
		for range 12 * 60 * 3 {
			request(20 * time.Second)
		}
		if got := b.upstream.count(); got > 12*7 {
			t.Errorf("%d calls upstream in 12 hours", got)
		}
	})
}

func TestCache_ServesStaleTokenDuringOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		expiry := b.get().Expiry
		b.upstream.set(func(u *upstream) { u.err = errDown })
		for time.Until(expiry) > 0 {
			b.wantToken("token-1")
			time.Sleep(time.Second)
		}
		if got := b.upstream.count(); got < 45 || got > 2*50 {
			t.Errorf("%d attempts to renew in some 50 minutes, want one or two a minute", got)
		}
		_, err := b.cache.AccessToken(t.Context(), linked, DefaultScopes())
		wantError(t, err, Unavailable, "upstream is down")

		b.upstream.set(func(u *upstream) { u.err = nil })
		if left := time.Until(b.get().Expiry); left < 59*time.Minute {
			t.Errorf("after the outage: %s left", left)
		}
	})
}

func TestCache_FailedRenewalKeepsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		request := func() string {
			token, err := b.cache.IDToken(t.Context(), linked, IDTokenRequest{Audience: "a"})
			check(t, err)
			return token.Value()
		}
		request()
		time.Sleep(8 * time.Minute) // short for an ID token
		b.upstream.set(func(u *upstream) { u.err = errDown })
		for range 10 {
			if got := request(); got != "token-1" {
				t.Fatalf("got %s", got)
			}
		}
		b.wantCalls(2)
		b.upstream.set(func(u *upstream) { u.err = nil })
		time.Sleep(2 * time.Second)
		if got := request(); got != "token-3" {
			t.Errorf("after the outage: %s", got)
		}
	})
}

func TestCache_HangingUpstreamDelaysFewCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		b.getShort()
		b.upstream.set(func(u *upstream) { u.latency = time.Hour })
		var waited time.Duration
		start := time.Now()
		for time.Since(start) < 3*time.Minute {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			requested := time.Now()
			token, err := b.cache.AccessToken(ctx, linked, DefaultScopes())
			cancel()
			check(t, err)
			if got := token.Value(); got != "token-1" {
				t.Fatalf("got %s", got)
			}
			waited += time.Since(requested)
			time.Sleep(200 * time.Millisecond)
		}
		// Half a second for each attempt, of which each hangs for 20 s.
		if waited > 5*time.Second {
			t.Errorf("callers waited for %s of %s", waited, time.Since(start))
		}
	})
}

// The retry delay grows with attempts, not with callers that gave up.
func TestCache_SharedFailureCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		b.getShort()
		calls := b.upstream.count()
		b.upstream.set(func(u *upstream) { u.err, u.latency = errDown, 100*time.Millisecond })
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				if _, err := b.cache.AccessToken(ctx, linked, DefaultScopes()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		b.wantCalls(calls + 1)
		b.upstream.set(func(u *upstream) { u.err = nil })
		time.Sleep(2 * time.Second)
		if got, want := b.get().Value(), fmt.Sprintf("token-%d", calls+2); got != want {
			t.Errorf("two seconds later: %s, want %s", got, want)
		}
	})
}

func TestCache_PermanentErrorReplacesShortToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		b.get()
		denied := &Error{Kind: Denied, Message: "IAM says no"}
		b.upstream.set(func(u *upstream) { u.err = denied })
		time.Sleep(50 * time.Minute)
		b.wantToken("token-1") // renewals in the background have failed
		if got := b.upstream.count(); got > 1+2*42 {
			t.Errorf("%d calls upstream in 40 minutes of refusals", got)
		}
		time.Sleep(6 * time.Minute)
		calls := b.upstream.count()
		for range 5 { // the retry delay does not hide the refusal
			_, err := b.cache.AccessToken(t.Context(), linked, DefaultScopes())
			wantError(t, err, Denied, "IAM says no")
			time.Sleep(300 * time.Millisecond)
		}
		if got := b.upstream.count() - calls; got > 1 {
			t.Errorf("%d calls upstream within two seconds", got)
		}
		b.upstream.set(func(u *upstream) { u.err = nil })
		time.Sleep(refusalTTL)
		if left := time.Until(b.get().Expiry); left < 59*time.Minute {
			t.Errorf("after the binding was added: %s left", left)
		}
	})
}

func TestCache_ShortLivedTokenIsReused(t *testing.T) {
	for _, test := range []struct {
		kind     tokenKind
		lifetime time.Duration
	}{
		{tokenKinds()[0], time.Minute},
		{tokenKinds()[0], 5 * time.Minute},
		{tokenKinds()[1], time.Minute},
		{tokenKinds()[1], 50 * time.Minute},
	} {
		t.Run(fmt.Sprintf("%s of %s", test.kind.name, test.lifetime), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newCacheFixture(t)
				b.upstream.set(func(u *upstream) { u.lifetime = test.lifetime })
				for range 200 {
					token, err := test.kind.request(t.Context(), b.cache, linked)
					check(t, err)
					if time.Until(token.Expiry) < test.lifetime/4 {
						t.Fatalf("%s left", time.Until(token.Expiry))
					}
					time.Sleep(test.lifetime / 20) // ten lifetimes in all
				}
				if got := b.upstream.count(); got > 80 {
					t.Errorf("%d calls upstream in ten lifetimes", got)
				}
			})
		})
	}
}

func TestCache_FirstRequestGetsUpstreamError(t *testing.T) {
	for _, errorKind := range []Kind{NotLinked, Denied, NotFound, Invalid, Misconfigured, Unavailable} {
		for _, kind := range tokenKinds() {
			synctest.Test(t, func(t *testing.T) {
				b := newCacheFixture(t)
				b.upstream.set(func(u *upstream) { u.err = &Error{Kind: errorKind, Message: "Google's text"} })
				_, err := kind.request(t.Context(), b.cache, identity.Workload{})
				wantError(t, err, errorKind, "Google's text")
			})
		}
	}
}
