package tokens

import (
	"context"
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
		if got := b.held(); got != size {
			t.Errorf("%d tokens in a cache of %d", got, size)
		}
		b.wantNoFlights()
	})
}

func TestFailuresAreForgottenInTheEnd(t *testing.T) {
	for _, failure := range []error{errDown, &Error{Kind: Denied, Message: "no"}} {
		synctest.Test(t, func(t *testing.T) {
			b := newCacheBench(t)
			b.upstream.set(func(u *upstream) { u.err = failure })
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), minPause/4)
					defer cancel()
					if _, err := b.cache.AccessToken(ctx, linked, NewScopes(fmt.Sprint(i))); err == nil {
						t.Error("no error")
					}
				})
			}
			all.Wait()
			if got := b.held(); got != 50 {
				t.Errorf("%d failures are remembered", got)
			}
			time.Sleep(refusalLife + 2*maxPause)
			if got := b.held(); got != 0 {
				t.Errorf("%d entries of tokens that never were", got)
			}
			b.wantNoFlights()
			b.wantCalls(50)
		})
	}
}

// wantNoFlights looks into the library's map, which it does not show.
func (b *cacheBench) wantNoFlights() {
	b.t.Helper()
	synctest.Wait()
	if got := reflect.ValueOf(&b.cache.flights.group).Elem().FieldByName("m").Len(); got != 0 {
		b.t.Errorf("%d flights are remembered", got)
	}
	b.cache.mu.Lock()
	defer b.cache.mu.Unlock()
	if got := len(b.cache.attempts); got != 0 {
		b.t.Errorf("%d attempts are remembered", got)
	}
}
