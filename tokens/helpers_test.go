package tokens

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/principal"
)

const (
	testGSA      = "cart@shop-project.iam.gserviceaccount.com"
	testPool     = "shop-project.svc.id.goog"
	testIssuer   = "https://kubernetes.default.svc.cluster.local"
	testProvider = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/clusters/providers/shop"
	testCaller   = "principal://iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/clusters/subject/system:serviceaccount:shop:cart"

	tokenCreator = "roles/iam.serviceAccountTokenCreator"
	policyViewer = "roles/iam.serviceAccountViewer"
)

// linked is a workload whose KSA names a GSA; the KSA of unlinked names none.
var (
	linked = identity.Workload{
		Pod: identity.Pod{Namespace: "shop", Name: "cart-7d4", UID: "pod-uid"},
		KSA: identity.ServiceAccount{Namespace: "shop", Name: "cart", UID: "ksa-uid"},
		GSA: testGSA,
	}
	unlinked = with(linked, func(w *identity.Workload) { w.GSA = "" })
)

// testNames are the names of KSAs in the pool of testProvider, testGKENames those without
// a pool of the operator's.
var (
	testGKENames = principal.Names{GKEPool: testPool, ProjectNumber: "123456"}
	testNames    = with(testGKENames, func(n *principal.Names) {
		n.Pool = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/clusters"
	})
)

var errDown = &Error{Kind: Unavailable, Message: "upstream is down"}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func with[T any](v T, change func(*T)) T {
	change(&v)
	return v
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError checks the kind of an error, and that its text contains all of texts.
func wantError(t *testing.T, err error, kind Kind, texts ...string) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an error of kind %s", err, kind)
	}
	if e.Kind != kind {
		t.Errorf("kind %s, want %s: %s", e.Kind, kind, e)
	}
	for _, text := range texts {
		if !strings.Contains(e.Error(), text) {
			t.Errorf("%s\nlacks %q", e, text)
		}
	}
	return e
}

// upstream is a Source that a test controls. Each of its tokens is different.
type upstream struct {
	mu       sync.Mutex
	calls    int
	lifetime time.Duration
	latency  time.Duration
	err      error
}

func (u *upstream) set(change func(*upstream)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change(u)
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.calls
}

func (u *upstream) mint(ctx context.Context) (Token, error) {
	u.mu.Lock()
	u.calls++
	call, lifetime, latency, err := u.calls, u.lifetime, u.latency, u.err
	u.mu.Unlock()
	minted := time.Now()
	// No timer without a duration: in a synctest bubble it can crash Go's race detector
	// (Go 1.26.8, runtime.(*timer).maybeRunChan).
	if latency > 0 {
		select {
		case <-time.After(latency):
		case <-ctx.Done():
			return Token{}, unreachable("mint", "upstream", ctx.Err())
		}
	}
	if err != nil {
		return Token{}, err
	}
	return NewToken(fmt.Sprintf("token-%d", call), minted.Add(lifetime)), nil
}

func (u *upstream) AccessToken(ctx context.Context, _ identity.Workload, _ Scopes) (Token, error) {
	return u.mint(ctx)
}

func (u *upstream) IDToken(ctx context.Context, _ identity.Workload, _ IDTokenRequest) (Token, error) {
	return u.mint(ctx)
}

// cacheFixture is a cache in front of an upstream.
type cacheFixture struct {
	*cache
	*upstream
	t          *testing.T
	background *background
	registry   *prometheus.Registry
}

// newCacheFixture returns a cache whose tokens have a lifetime of an hour.
func newCacheFixture(t *testing.T) *cacheFixture {
	t.Helper()
	b := &cacheFixture{upstream: &upstream{lifetime: time.Hour}, t: t, background: newBackground(upstreamTimeout), registry: prometheus.NewRegistry()}
	b.cache = newCache(b.upstream, "tokens", 64, time.Now, b.background, newMetrics(b.registry)).retryFor(upstreamTimeout)
	t.Cleanup(b.background.close)
	return b
}

// get requests the access token of the linked workload. An error fails the test.
func (b *cacheFixture) get() Token {
	b.t.Helper()
	token, err := b.cache.AccessToken(b.t.Context(), linked, DefaultScopes())
	check(b.t, err)
	return token
}

// getShort fills the cache with a token that has 4 minutes left.
func (b *cacheFixture) getShort() {
	b.t.Helper()
	b.get()
	b.upstream.set(func(u *upstream) { u.err = errDown })
	time.Sleep(56 * time.Minute)
	b.upstream.set(func(u *upstream) { u.err = nil })
	synctest.Wait()
	b.cache.mu.Lock()
	defer b.cache.mu.Unlock()
	// As if the retry delay were over; otherwise the next attempt is in the background.
	e := b.cache.entries.peek(accessKey(linked, DefaultScopes()))
	e.failures, e.notBefore = 0, time.Time{}
}

// wantToken requests the token and checks its value, and that it comes at once.
func (b *cacheFixture) wantToken(want string) {
	b.t.Helper()
	start := time.Now()
	if got := b.get().Value(); got != want {
		b.t.Fatalf("got %s, want %s", got, want)
	}
	if waited := time.Since(start); waited > 0 {
		b.t.Fatalf("the request waited for %s", waited)
	}
}

// size is the number of entries.
func (c *store) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries.len
}

func (c *store) has(k key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries.peek(k) != nil
}

func (b *cacheFixture) wantCalls(want int) {
	b.t.Helper()
	if got := b.upstream.count(); got != want {
		b.t.Fatalf("%d calls upstream, want %d", got, want)
	}
}

// hangingClient is an HTTP client whose requests are never answered.
func hangingClient() *http.Client {
	return &http.Client{Transport: transport(func(*http.Request) (int, string) { return 0, "" })}
}

// offlineGoogle is a Google that trusts an issuer of KSA tokens.
type offlineGoogle struct {
	*fakegoogle.Running
	issuer *LocalIssuer
	client *http.Client // that reaches it; default: any client
}

// offlineServer is a Google that does not listen.
var offlineServer = &fakegoogle.Running{URL: "https://google.test"}

func startGoogle(t *testing.T) *offlineGoogle {
	t.Helper()
	g := &offlineGoogle{Running: fakegoogle.Start(t, fakegoogle.Options{SharedQuotaProject: true}), issuer: must(NewLocalIssuer(testIssuer, time.Now))}
	g.AddServiceAccount(testGSA)
	check(t, g.AddProvider(g.provider()))
	check(t, g.AddGKEPool("shop-project", "123456"))
	return g
}

// googleInBubble is a Google without a network, for fake time. Its clock is ahead of ours.
func googleInBubble(t *testing.T, ahead time.Duration) *offlineGoogle {
	t.Helper()
	now := func() time.Time { return time.Now().Add(ahead) }
	g := &offlineGoogle{
		Running: &fakegoogle.Running{Server: fakegoogle.New(fakegoogle.Options{Now: now, SharedQuotaProject: true}), URL: offlineServer.URL},
		issuer:  must(NewLocalIssuer(testIssuer, now)),
	}
	g.client = &http.Client{Transport: inProcess{g}}
	g.AddServiceAccount(testGSA)
	check(t, g.AddProvider(g.provider()))
	check(t, g.AddGKEPool("shop-project", "123456"))
	g.Bind(testGSA, workloadIdentityUser, testCaller)
	return g
}

// inProcess calls a handler instead of a server.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	received := r.WithContext(r.Context())
	if received.Body == nil {
		received.Body = http.NoBody // as a server does
	}
	p.ServeHTTP(recorder, received)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	response := recorder.Result()
	response.Request = r
	return response, nil
}

// wantCalls checks how often each method was called since before was counted.
func (g *offlineGoogle) wantCalls(t *testing.T, before map[string]int, want map[string]int) {
	t.Helper()
	for method, n := range g.Counters() {
		if got := n - before[method]; got != want[method] {
			t.Errorf("%d calls of %s, want %d", got, method, want[method])
		}
	}
}

func (g *offlineGoogle) provider() fakegoogle.Provider {
	return fakegoogle.Provider{Name: testProvider, Issuer: testIssuer, JWKS: must(g.issuer.JWKS())}
}

// federation returns the options of a node in federation mode, with changes.
func (g *offlineGoogle) federation(changes ...func(*Federation)) Options {
	f := Federation{Provider: testProvider, Audience: testProvider, SubjectAudience: "https:" + testProvider, STSEndpoint: g.URL, Subjects: g.issuer}
	for _, change := range changes {
		change(&f)
	}
	return Options{Federation: &f, HTTPClient: g.client, Names: testNames, IAMCredentialsEndpoint: g.URL, IAMEndpoint: g.URL}
}

func (g *offlineGoogle) impersonation(credential SourceCredential, policy Policy) Options {
	return Options{SourceCredential: credential, Policy: policy, HTTPClient: g.client, Names: testGKENames, IAMCredentialsEndpoint: g.URL, IAMEndpoint: g.URL}
}

// wantGrant checks the principal that Google sees in a token, and its expiry.
func (g *offlineGoogle) wantGrant(t *testing.T, token Token, principal string, chain ...string) fakegoogle.Grant {
	t.Helper()
	grant, ok := g.Inspect(token.Value())
	if !ok {
		t.Fatal("Google does not know the token")
	}
	if grant.Principal != principal || strings.Join(grant.DelegationChain, " ") != strings.Join(chain, " ") {
		t.Errorf("%s through %v, want %s through %v", grant.Principal, grant.DelegationChain, principal, chain)
	}
	if off := token.Expiry.Sub(grant.Expiry).Abs(); off > 2*time.Second {
		t.Errorf("the token's expiry is %s off", off)
	}
	return grant
}

// newEngine returns an engine that is closed at the end of the test.
func newEngine(t *testing.T, o Options) *Engine {
	t.Helper()
	if o.HTTPClient == nil {
		// A client of its own: no connection outlives the test.
		transport := &http.Transport{}
		o.HTTPClient = &http.Client{Transport: transport}
		t.Cleanup(transport.CloseIdleConnections)
	}
	e := must(New(o))
	t.Cleanup(e.Close)
	return e
}

// transport answers HTTP requests without a network; a request hangs if status is 0.
type transport func(*http.Request) (status int, body string)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := f(r)
	if status == 0 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// cacheRequests is the number of requests to a cache with a result.
func cacheRequests(registry *prometheus.Registry, result string) float64 {
	sum := 0.0
	for _, family := range must(registry.Gather()) {
		if family.GetName() != "gme_token_cache_requests_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "result" && label.GetValue() == result {
					sum += metric.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// tokenKind is one of the two kinds of tokens of a Source.
type tokenKind struct {
	name    string
	request func(context.Context, Source, identity.Workload) (Token, error)
}

// tokenKinds returns both.
func tokenKinds() []tokenKind {
	return []tokenKind{
		{"access token", func(ctx context.Context, s Source, w identity.Workload) (Token, error) {
			return s.AccessToken(ctx, w, DefaultScopes())
		}},
		{"ID token", func(ctx context.Context, s Source, w identity.Workload) (Token, error) {
			return s.IDToken(ctx, w, IDTokenRequest{Audience: "https://example.com"})
		}},
	}
}
