package tokens

import (
	"testing"
	"time"
)

// warm is an engine whose cache holds the linked workload's token.
func warm(tb testing.TB) *Engine {
	e := must(New((&offlineGoogle{Running: nowhere}).impersonation(operator, AllowAll{})))
	tb.Cleanup(e.Close)
	k := accessKey(linked, DefaultScopes())
	e.tokens.mu.Lock()
	defer e.tokens.mu.Unlock()
	e.tokens.record(k, linked, time.Now(), NewToken("t", time.Now().Add(time.Hour)), nil)
	return e
}

func BenchmarkCachedAccessToken(b *testing.B) {
	e, scopes := warm(b), DefaultScopes()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.AccessToken(b.Context(), linked, scopes); err != nil {
			b.Fatal(err)
		}
	}
}

func TestCachedTokenCostsNoAllocation(t *testing.T) {
	e, scopes, ctx := warm(t), DefaultScopes(), t.Context()
	got := testing.AllocsPerRun(1000, func() {
		if _, err := e.AccessToken(ctx, linked, scopes); err != nil {
			t.Error(err)
		}
	})
	if got > 1 {
		t.Errorf("%v allocations", got)
	}
}
