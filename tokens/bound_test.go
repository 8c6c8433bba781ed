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

// Callers control their audiences. These must neither exhaust the memory nor evict the
// tokens of others.
func TestCache_IsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		const size = 64
		for i := range 10 * size {
			audience := fmt.Sprintf("https://%d.example.com", i)
			_, err := b.cache.IDToken(t.Context(), linked, IDTokenRequest{Audience: audience})
			check(t, err)
			b.get()
		}
		b.wantCalls(10*size + 1)
		if got := b.size(); got != size {
			t.Errorf("%d tokens in a cache of %d", got, size)
		}
		b.wantNoFlights()
	})
}

func TestCache_ForgetsFailures(t *testing.T) {
	for _, failure := range []error{errDown, &Error{Kind: Denied, Message: "no"}} {
		synctest.Test(t, func(t *testing.T) {
			b := newCacheFixture(t)
			b.upstream.set(func(u *upstream) { u.err = failure })
			var all sync.WaitGroup
			for i := range 50 {
				all.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), minRetryDelay/4)
					defer cancel()
					if _, err := b.cache.AccessToken(ctx, linked, NewScopes(fmt.Sprint(i))); err == nil {
						t.Error("no error")
					}
				})
			}
			all.Wait()
			if got := b.size(); got != 50 {
				t.Errorf("%d failures are cached", got)
			}
			time.Sleep(refusalTTL + 2*maxRetryDelay)
			if got := b.size(); got != 0 {
				t.Errorf("%d entries without a token", got)
			}
			b.wantNoFlights()
			b.wantCalls(50)
		})
	}
}

// wantNoFlights reads the library's unexported map.
func (b *cacheFixture) wantNoFlights() {
	b.t.Helper()
	synctest.Wait()
	if got := reflect.ValueOf(&b.cache.flights.group).Elem().FieldByName("m").Len(); got != 0 {
		b.t.Errorf("%d flights are left", got)
	}
	b.cache.mu.Lock()
	defer b.cache.mu.Unlock()
	if got := len(b.cache.attempts); got != 0 {
		b.t.Errorf("%d attempts are left", got)
	}
}
