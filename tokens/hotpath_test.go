package tokens

import (
	"context"
	"testing"
	"time"
)

// newWarmEngine returns an engine whose cache holds the linked workload's tokens: access
// tokens with the default scopes and with cloud-platform alone, and an ID token.
func newWarmEngine(tb testing.TB, changes ...func(*Options)) *Engine {
	o := (&offlineGoogle{Running: offlineServer}).impersonation(operator, AllowAll{})
	for _, change := range changes {
		change(&o)
	}
	e := must(New(o))
	tb.Cleanup(e.Close)
	e.tokens.mu.Lock()
	defer e.tokens.mu.Unlock()
	for _, k := range []key{accessKey(linked, DefaultScopes()), accessKey(linked, Scopes{CloudPlatform}), accessKey(linked, Scopes{readOnly}), idKey(linked, testID)} {
		e.tokens.record(k, linked, time.Now(), NewToken("t", time.Now().Add(time.Hour)), nil)
	}
	return e
}

func withAuditLog(o *Options) { o.Audit = NewAuditLog(&sink{}) } // without Run, so records are dropped

// hotPaths are requests that a warm engine answers from its cache.
var hotPaths = []struct {
	name        string
	options     []func(*Options)
	allocations float64
	request     func(context.Context, Source) (Token, error)
}{
	{"default scopes", nil, 0, func(ctx context.Context, s Source) (Token, error) { return s.AccessToken(ctx, linked, hotScopes[0]) }},
	{"cloud-platform", nil, 0, func(ctx context.Context, s Source) (Token, error) { return s.AccessToken(ctx, linked, hotScopes[1]) }},
	{"other scope", nil, 1, func(ctx context.Context, s Source) (Token, error) { return s.AccessToken(ctx, linked, hotScopes[2]) }},
	{"ID token", nil, 0, func(ctx context.Context, s Source) (Token, error) { return s.IDToken(ctx, linked, testID) }},
	{"audited", []func(*Options){withAuditLog}, 0, func(ctx context.Context, s Source) (Token, error) { return s.AccessToken(ctx, linked, hotScopes[0]) }},
}

var hotScopes = []Scopes{DefaultScopes(), {CloudPlatform}, {readOnly}}

func BenchmarkHotPath(b *testing.B) {
	for _, path := range hotPaths {
		b.Run(path.name, func(b *testing.B) {
			e := newWarmEngine(b, path.options...)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := path.request(b.Context(), e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestHotPath_CacheHitDoesNotAllocate(t *testing.T) {
	for _, path := range hotPaths {
		t.Run(path.name, func(t *testing.T) {
			e, ctx := newWarmEngine(t, path.options...), t.Context()
			got := testing.AllocsPerRun(1000, func() {
				if _, err := path.request(ctx, e); err != nil {
					t.Error(err)
				}
			})
			if got > path.allocations {
				t.Errorf("%v allocations, want %v", got, path.allocations)
			}
		})
	}
}
