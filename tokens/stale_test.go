package tokens

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"gke-metadata-emulator/identity"
)

func TestCachedTokenNeedsNoCallUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheBench(t)
		for range 100 {
			if got := b.get().Value(); got != "token-1" {
				t.Fatalf("got %s", got)
			}
		}
		b.wantCalls(1)
		for result, want := range map[string]float64{"miss": 1, "hit": 99, "renewing": 0, "short": 0} {
			if got := testutil.ToFloat64(b.cache.metrics.cache.WithLabelValues(result)); got != want {
				t.Errorf("%v requests counted as %s, want %v", got, result, want)
			}
		}
	})
}

func TestTokenIsRenewedInTheBackgroundWhileTheOldOneIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheBench(t)
		b.get()
		b.upstream.set(func(u *upstream) { u.latency = 3 * time.Second })
		time.Sleep(33 * time.Minute)
		b.wantToken("token-1")
		b.wantCalls(1)
		time.Sleep(7 * time.Minute) // two thirds
		for range 3 {
			b.wantToken("token-1")
			synctest.Wait()
			b.wantCalls(2)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		b.wantToken("token-2")
		b.wantCalls(2)
		if got := testutil.ToFloat64(b.cache.metrics.cache.WithLabelValues("renewing")); got != 1 {
			t.Errorf("%v requests counted as renewing", got)
		}
	})
}

func TestRenewalsAreSpreadOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheBench(t)
		times := map[time.Duration]bool{}
		for i := range 50 {
			k := key{audience: fmt.Sprint(i)}
			b.cache.keep(k, NewToken("t", time.Now().Add(time.Hour)))
			e, _ := b.cache.entries.Peek(k)
			after := time.Until(e.renewAt)
			if after <= 34*time.Minute-time.Second || after > 40*time.Minute {
				t.Errorf("renewed after %s of an hour", after)
			}
			times[after] = true
		}
		if len(times) < 40 {
			t.Errorf("50 tokens are renewed at %d times", len(times))
		}
	})
}

// However often a workload asks, what it gets lasts for long enough.
func TestCallersAlwaysGetEnoughLifeWhileUpstreamIsHealthy(t *testing.T) {
	for _, of := range []struct {
		kind endpoint
		life time.Duration
		want time.Duration
	}{
		{endpoints()[0], time.Hour, 5 * time.Minute},
		{endpoints()[0], 12 * time.Hour, 5 * time.Minute},
		{endpoints()[0], 6 * time.Minute, 5 * time.Minute},
		{endpoints()[1], time.Hour, 55 * time.Minute},
		{endpoints()[1], time.Hour - 3*time.Second, 55 * time.Minute}, // its way here takes time, too
	} {
		for _, pause := range []time.Duration{time.Second, 37 * time.Second, 4 * time.Minute, 11 * time.Minute, 29 * time.Minute, 56 * time.Minute, 3 * time.Hour} {
			t.Run(fmt.Sprintf("%s of %s every %s", of.kind.name, of.life, pause), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newCacheBench(t)
					b.upstream.set(func(u *upstream) { u.life = of.life })
					for start := time.Now(); time.Since(start) < 14*time.Hour; time.Sleep(pause + time.Since(start)/1000) {
						token, err := of.kind.ask(t.Context(), b.cache, linked)
						check(t, err)
						if left := time.Until(token.Expiry); left < of.want {
							t.Fatalf("after %s: %s left, want %s", time.Since(start), left, of.want)
						}
						synctest.Wait()
					}
				})
			})
		}
	}
}

// Two caches stand behind one another where a KSA's own token is served.
func TestCacheBehindACacheServesEnoughLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheBench(t)
		outer := must(newCache(b.cache, 64, time.Now, b.tasks, newMetrics(prometheus.NewRegistry())))
		ask := func(pause time.Duration) {
			t.Helper()
			time.Sleep(pause)
			token, err := outer.AccessToken(t.Context(), unlinked, DefaultScopes())
			check(t, err)
			if left := time.Until(token.Expiry); left < minLife {
				t.Fatalf("%s left", left)
			}
			synctest.Wait()
		}
		ask(0)
		ask(54*time.Minute + 50*time.Second) // each is about to renew, and has a little more than it must
		ask(15 * time.Second)
		for range 12 * 60 * 3 {
			ask(20 * time.Second)
		}
		if got := b.upstream.count(); got > 24 {
			t.Errorf("%d calls upstream in 12 hours", got)
		}
	})
}

func TestOldTokenIsServedUntilItReallyExpiresWhileUpstreamFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheBench(t)
		expiry := b.get().Expiry
		b.upstream.set(func(u *upstream) { u.err = errDown })
		for time.Until(expiry) > 0 {
			b.wantToken("token-1")
			time.Sleep(time.Second)
		}
		if got := b.upstream.count(); got < 5 || got > 80 {
			t.Errorf("%d attempts to renew in some 24 minutes, want one or two a minute", got)
		}
		_, err := b.cache.AccessToken(t.Context(), linked, DefaultScopes())
		wantError(t, err, Unavailable, "upstream is down")

		b.upstream.set(func(u *upstream) { u.err = nil })
		if left := time.Until(b.get().Expiry); left < 59*time.Minute {
			t.Errorf("after the outage: %s left", left)
		}
	})
}

func TestFailedRenewalDoesNotThrowAwayATokenWith48MinutesLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheBench(t)
		ask := func() string {
			token, err := b.cache.IDToken(t.Context(), linked, IDTokenRequest{Audience: "a"})
			check(t, err)
			return token.Value()
		}
		ask()
		time.Sleep(12 * time.Minute)
		b.upstream.set(func(u *upstream) { u.err = errDown })
		for range 10 {
			if got := ask(); got != "token-1" {
				t.Fatalf("got %s", got)
			}
		}
		b.wantCalls(2)
		b.upstream.set(func(u *upstream) { u.err = nil })
		time.Sleep(2 * time.Second)
		if got := ask(); got != "token-3" {
			t.Errorf("after the outage: %s", got)
		}
	})
}

func TestCallersDoNotHangAgainAndAgainWhenUpstreamHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheBench(t)
		b.get()
		time.Sleep(56 * time.Minute)
		b.upstream.set(func(u *upstream) { u.latency = time.Hour })
		var waited time.Duration
		start := time.Now()
		for time.Since(start) < 3*time.Minute {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			asked := time.Now()
			token, err := b.cache.AccessToken(ctx, linked, DefaultScopes())
			cancel()
			check(t, err)
			if got := token.Value(); got != "token-1" {
				t.Fatalf("got %s", got)
			}
			waited += time.Since(asked)
			time.Sleep(200 * time.Millisecond)
		}
		if waited > 5*time.Second {
			t.Errorf("callers waited for %s of %s", waited, time.Since(start))
		}
	})
}

// Many callers tell of one failure, those who gave up and the call itself: the
// pause grows by attempts, not by callers.
func TestOneFailureIsCountedOnceHoweverManyWaitedForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheBench(t)
		b.get()
		time.Sleep(56 * time.Minute)
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
		b.wantCalls(2)
		b.upstream.set(func(u *upstream) { u.err = nil })
		time.Sleep(2 * time.Second)
		if got := b.get().Value(); got != "token-3" {
			t.Errorf("two seconds later: %s", got)
		}
	})
}

func TestPermanentErrorIsAnsweredOnceTheTokenIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheBench(t)
		b.get()
		denied := &Error{Kind: Denied, Message: "IAM says no"}
		b.upstream.set(func(u *upstream) { u.err = denied })
		time.Sleep(45 * time.Minute)
		b.wantToken("token-1") // renewed in the background, in vain
		synctest.Wait()
		b.wantCalls(2)
		time.Sleep(11 * time.Minute)
		for range 5 { // the pause between two attempts hides nothing
			_, err := b.cache.AccessToken(t.Context(), linked, DefaultScopes())
			wantError(t, err, Denied, "IAM says no")
			time.Sleep(300 * time.Millisecond)
		}
		if got := b.upstream.count(); got > 5 {
			t.Errorf("%d calls upstream within two seconds", got)
		}
		b.upstream.set(func(u *upstream) { u.err = nil })
		time.Sleep(5 * time.Second)
		if left := time.Until(b.get().Expiry); left < 59*time.Minute {
			t.Errorf("after the binding was added: %s left", left)
		}
	})
}

func TestTokenWithAShortNaturalLifeIsUsedForMostOfIt(t *testing.T) {
	for _, of := range []struct {
		kind endpoint
		life time.Duration
	}{
		{endpoints()[0], time.Minute},
		{endpoints()[0], 5 * time.Minute},
		{endpoints()[1], time.Minute},
		{endpoints()[1], 50 * time.Minute},
	} {
		t.Run(fmt.Sprintf("%s of %s", of.kind.name, of.life), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newCacheBench(t)
				b.upstream.set(func(u *upstream) { u.life = of.life })
				for range 200 {
					token, err := of.kind.ask(t.Context(), b.cache, linked)
					check(t, err)
					if time.Until(token.Expiry) < of.life/4 {
						t.Fatalf("%s left", time.Until(token.Expiry))
					}
					time.Sleep(of.life / 20) // ten lives in all
				}
				if got := b.upstream.count(); got > 20 {
					t.Errorf("%d calls upstream in ten lives", got)
				}
			})
		})
	}
}

func TestFirstRequestGetsUpstreamsOwnError(t *testing.T) {
	for _, kind := range []Kind{NotLinked, Denied, NotFound, Invalid, Misconfigured, Unavailable} {
		for _, of := range endpoints() {
			synctest.Test(t, func(t *testing.T) {
				b := newCacheBench(t)
				b.upstream.set(func(u *upstream) { u.err = &Error{Kind: kind, Message: "Google's text"} })
				_, err := of.ask(t.Context(), b.cache, identity.Workload{})
				wantError(t, err, kind, "Google's text")
			})
		}
	}
}
