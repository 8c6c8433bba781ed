package tokens

import (
	"fmt"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Callers choose their audiences: what they choose must not fill the memory, nor
// drive out what others use.
func TestCacheIsBoundedHoweverManyAudiencesCallersInvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheBench(t)
		const size = 64
		for i := range 10 * size {
			audience := fmt.Sprintf("https://%d.example.com", i)
			_, err := b.cache.IDToken(t.Context(), linked, IDTokenRequest{Audience: audience})
			check(t, err)
			b.get()
		}
		b.wantCalls(10*size + 1)
		if got := b.cache.entries.Len(); got != size {
			t.Errorf("%d tokens in a cache of %d", got, size)
		}
		b.wantNoFlights()
	})
}

func TestFailuresLeaveNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheBench(t)
		b.upstream.set(func(u *upstream) { u.err, u.latency = errDown, time.Second })
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				_, err := b.cache.AccessToken(t.Context(), linked, NewScopes(fmt.Sprint(i)))
				wantError(t, err, Unavailable)
			})
		}
		all.Wait()
		if got := b.cache.entries.Len(); got != 0 {
			t.Errorf("%d entries of tokens that never were", got)
		}
		b.wantNoFlights()
	})
}

// wantNoFlights looks into the library's map, which it does not show.
func (b *cacheBench) wantNoFlights() {
	b.t.Helper()
	synctest.Wait()
	if got := reflect.ValueOf(&b.cache.flights.group).Elem().FieldByName("m").Len(); got != 0 {
		b.t.Errorf("%d flights are remembered", got)
	}
}
