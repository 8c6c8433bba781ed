package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

// cached is a pod and a token that are known already.
type cached struct {
	workload identity.Workload
	token    tokens.Token
}

func (c cached) Pod(context.Context, identity.Connection) (identity.Pod, error) {
	return c.workload.Pod, nil
}
func (c cached) Workload(context.Context, identity.Pod) (identity.Workload, error) {
	return c.workload, nil
}
func (c cached) Changed() <-chan struct{} { return nil }
func (c cached) AccessToken(context.Context, identity.Workload, tokens.Scopes) (tokens.Token, error) {
	return c.token, nil
}
func (c cached) IDToken(context.Context, identity.Workload, tokens.IDTokenRequest) (tokens.Token, error) {
	return c.token, nil
}

// blank is a response that nobody reads.
type blank struct{ header http.Header }

func (b *blank) Header() http.Header         { return b.header }
func (b *blank) Write(p []byte) (int, error) { return len(p), nil }
func (b *blank) WriteHeader(int)             {}

func hotRequest(tb testing.TB, path string) func() {
	tb.Helper()
	c := cached{workload: linked().workload, token: tokens.NewToken(accessSecret, time.Now().Add(time.Hour))}
	s := New(Options{Identity: c, Tokens: c, Facts: func() Facts { return testFacts }, Metrics: prometheus.NewRegistry()})
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set(flavorHeader, flavor)
	r = r.WithContext(context.WithValue(r.Context(), connectionKey{}, &connection{
		addresses: identity.Connection{Remote: netip.MustParseAddrPort("10.0.0.1:4000"), Local: netip.MustParseAddrPort("169.254.169.254:80")},
	}))
	w := &blank{http.Header{}}
	return func() {
		clear(w.header)
		s.ServeHTTP(w, r)
		if w.header["Content-Type"] == nil {
			tb.Fatalf("%s: no answer: %v", path, w.header)
		}
	}
}

// What the handler allocates is most of what a cached token costs more than Go's
// own server.
func TestCachedTokenAllocatesLittle(t *testing.T) {
	for path, most := range map[string]float64{
		accounts + "/default/token":                 14,
		accounts + "/default/identity?audience=abc": 18,
		root + "/project/project-id":                12,
	} {
		if got := testing.AllocsPerRun(100, hotRequest(t, path)); got > most {
			t.Errorf("%s: %.0f allocations, of %.0f at most", path, got, most)
		}
	}
}

func BenchmarkCachedToken(b *testing.B) {
	ask := hotRequest(b, accounts+"/default/token")
	b.ReportAllocs()
	for b.Loop() {
		ask()
	}
}
