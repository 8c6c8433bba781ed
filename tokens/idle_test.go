package tokens

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestIdle_UnusedTokenIsNotRenewedForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		b.get()
		time.Sleep(idleTimeout)
		calls := b.upstream.count()
		if calls < 5 || calls > 9 {
			t.Errorf("%d calls in %s, want one in some 12 minutes", calls, idleTimeout)
		}
		time.Sleep(12 * time.Hour)
		b.wantCalls(calls)
		if got := b.size(); got != 0 {
			t.Errorf("%d entries", got)
		}
	})
}

func TestIdle_OnlyRecentTokensOfKSAAreRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		const all = 3 * maxRenewedAhead
		for i := range all {
			_, err := b.cache.IDToken(t.Context(), linked, IDTokenRequest{Audience: fmt.Sprint(i)})
			check(t, err)
		}
		time.Sleep(16 * time.Minute)
		// Some are renewed twice, if the second quarter of an hour has begun.
		b.wantCalls(all + int(cacheRequests(b.registry, "ahead")))
		if got := cacheRequests(b.registry, "ahead"); got < maxRenewedAhead || got > 2*maxRenewedAhead {
			t.Errorf("%v are renewed", got)
		}
		for i := range all {
			b.cache.mu.Lock()
			e := b.cache.entries.peek(idKey(linked, IDTokenRequest{Audience: fmt.Sprint(i)}))
			renewed := time.Until(e.token.Expiry) > 45*time.Minute
			b.cache.mu.Unlock()
			if renewed != (i >= all-maxRenewedAhead) {
				t.Errorf("token %d of %d: renewed %t", i, all, renewed)
			}
		}
	})
}
