package tokens

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestTokenThatNobodyAsksForIsNotRenewedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheBench(t)
		b.get()
		time.Sleep(idle)
		calls := b.upstream.count()
		if calls < 5 || calls > 9 {
			t.Errorf("%d calls in %s, want one in some 12 minutes", calls, idle)
		}
		time.Sleep(12 * time.Hour)
		b.wantCalls(calls)
		if got := b.held(); got != 0 {
			t.Errorf("%d entries", got)
		}
	})
}

func TestOnlyTheTokensOfAKSAThatWereAskedForLastAreRenewedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheBench(t)
		const all = 3 * renewedAhead
		for i := range all {
			_, err := b.cache.IDToken(t.Context(), linked, IDTokenRequest{Audience: fmt.Sprint(i)})
			check(t, err)
		}
		time.Sleep(16 * time.Minute)
		// Twice, where the second quarter of an hour has begun.
		b.wantCalls(all + int(counted(b.registry, "ahead")))
		if got := counted(b.registry, "ahead"); got < renewedAhead || got > 2*renewedAhead {
			t.Errorf("%v are renewed", got)
		}
		for i := range all {
			b.cache.mu.Lock()
			e := b.cache.entries.peek(idKey(linked, IDTokenRequest{Audience: fmt.Sprint(i)}))
			renewed := time.Until(e.token.Expiry) > 45*time.Minute
			b.cache.mu.Unlock()
			if renewed != (i >= all-renewedAhead) {
				t.Errorf("token %d of %d: renewed %t", i, all, renewed)
			}
		}
	})
}
