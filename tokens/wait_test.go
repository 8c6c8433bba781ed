package tokens

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/fakegoogle"
)

// A request without a deadline waits for 10 seconds by default. A deadline of its context
// holds instead.
func TestWait_BoundsRequestsWithoutDeadline(t *testing.T) {
	for name, test := range map[string]struct {
		wait, deadline, want time.Duration
	}{
		"default":          {0, 0, 10 * time.Second},
		"option":           {3 * time.Second, 0, 3 * time.Second},
		"earlier deadline": {0, time.Second, time.Second},
		"later deadline":   {3 * time.Second, 5 * time.Second, 5 * time.Second},
	} {
		for _, kind := range tokenKinds() {
			t.Run(name+" for "+kind.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := googleInBubble(t, 0)
					o := g.federation()
					o.HTTPClient, o.Wait = hangingClient(), test.wait
					e := newEngine(t, o)
					ctx := t.Context()
					if test.deadline > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, test.deadline)
						defer cancel()
					}
					start := time.Now()
					_, err := kind.request(ctx, e, linked)
					wantError(t, err, Unavailable, "did not answer in time")
					if waited := time.Since(start); waited != test.want {
						t.Errorf("waited for %s, want %s", waited, test.want)
					}
				})
			})
		}
	}
}

// Transient failures are retried until the next attempt would be too late.
func TestWait_BoundsRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		e := newEngine(t, g.federation())
		g.SetFault(fakegoogle.MethodSTSToken, fakegoogle.Fault{Status: http.StatusServiceUnavailable})
		start := time.Now()
		_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
		wantError(t, err, Unavailable, "503 Service Unavailable")
		if waited := time.Since(start); waited < defaultWait/5 || waited > defaultWait {
			t.Errorf("waited for %s", waited)
		}
	})
}

// A caller with a short token waits for its renewal for as long.
func TestWait_BoundsRenewalOfShortToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		b.cache.retryFor(3 * time.Second)
		b.getShort()
		b.upstream.set(func(u *upstream) { u.latency = time.Hour })
		start := time.Now()
		if got := b.get().Value(); got != "token-1" {
			t.Errorf("got %s", got)
		}
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("waited for %s", waited)
		}
	})
}
