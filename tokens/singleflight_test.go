package tokens

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestSingleflight_EqualRequestsShareOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		b.upstream.set(func(u *upstream) { u.latency = time.Second })
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if got := b.get().Value(); got != "token-1" {
					t.Errorf("got %s", got)
				}
			})
		}
		all.Wait()
		b.wantCalls(1)
	})
}

func TestSingleflight_EqualRequestsShareOneFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		b.upstream.set(func(u *upstream) { u.latency, u.err = time.Second, errDown })
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second+minRetryDelay/4) // no time for another attempt
				defer cancel()
				_, err := b.cache.AccessToken(ctx, linked, DefaultScopes())
				wantError(t, err, Unavailable, "upstream is down")
			})
		}
		all.Wait()
		b.wantCalls(1)
	})
}

// Ruby's client hangs up after 0.5 s and retries a second later.
func TestSingleflight_CallOutlivesCallers(t *testing.T) {
	for _, wait := range []struct {
		name  string
		until time.Duration
	}{
		{"retried while the call is in flight", 600 * time.Millisecond},
		{"retried after the call has ended", 2 * time.Second},
	} {
		t.Run(wait.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newCacheFixture(t)
				b.upstream.set(func(u *upstream) { u.latency = 800 * time.Millisecond })
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				_, err := b.cache.AccessToken(ctx, linked, DefaultScopes())
				wantError(t, err, Unavailable, "did not answer in time")
				time.Sleep(wait.until - time.Since(start))
				if got := b.get().Value(); got != "token-1" {
					t.Errorf("got %s", got)
				}
				if got, want := time.Since(start), max(wait.until, 800*time.Millisecond); got != want {
					t.Errorf("the token came after %s, want %s", got, want)
				}
				b.wantCalls(1)
			})
		})
	}
}

func TestSingleflight_CallEndsAtUpstreamTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		b.upstream.set(func(u *upstream) { u.latency = time.Hour })
		start := time.Now()
		_, err := b.cache.AccessToken(t.Context(), linked, DefaultScopes())
		wantError(t, err, Unavailable, "did not answer in time")
		if got := time.Since(start); got != upstreamTimeout {
			t.Errorf("after %s, want %s", got, upstreamTimeout)
		}
	})
}

func TestSingleflight_DistinctRequestsAreIndependent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		b.upstream.set(func(u *upstream) { u.latency = 10 * time.Second })
		go func() { _, _ = b.cache.AccessToken(t.Context(), unlinked, DefaultScopes()) }()
		synctest.Wait() // it hangs
		b.upstream.set(func(u *upstream) { u.latency = 0 })
		b.wantToken("token-2")
	})
}

// TestMain checks that no goroutine is left.
func TestClose_EndsCallsAndRefusesNewOnes(t *testing.T) {
	g := &offlineGoogle{Running: offlineServer, issuer: must(NewLocalIssuer(testIssuer, time.Now))}
	synctest.Test(t, func(t *testing.T) {
		o := g.federation()
		o.HTTPClient = hangingClient()
		e := newEngine(t, o)
		failed := make(chan error)
		go func() {
			_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
			failed <- err
		}()
		synctest.Wait()
		start := time.Now()
		e.Close()
		wantError(t, <-failed, Unavailable, "could not be reached")
		if waited := time.Since(start); waited > 0 {
			t.Errorf("it took %s to close", waited)
		}
		_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
		wantError(t, err, Unavailable, "shutting down")
	})
}

func TestClose_CachedTokensAreStillServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		b.get()
		b.background.close()
		for _, age := range []time.Duration{0, 45 * time.Minute, 11 * time.Minute} {
			time.Sleep(age)
			b.wantToken("token-1")
		}
		time.Sleep(4 * time.Minute)
		_, err := b.cache.AccessToken(t.Context(), linked, DefaultScopes())
		wantError(t, err, Unavailable, "shutting down")
	})
}
