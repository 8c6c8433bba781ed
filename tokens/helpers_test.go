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
	"golang.org/x/oauth2"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
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

// linked is a workload whose KSA names a GSA, unlinked one whose KSA does not.
var (
	linked = identity.Workload{
		Pod: identity.Pod{Namespace: "shop", Name: "cart-7d4", UID: "pod-uid"},
		KSA: identity.ServiceAccount{Namespace: "shop", Name: "cart", UID: "ksa-uid"},
		GSA: testGSA,
	}
	unlinked = with(linked, func(w *identity.Workload) { w.GSA = "" })
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

// wantError checks the kind of an error, and that its text holds all of texts.
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

// upstream is a Source that does what a test says; each of its tokens is another.
type upstream struct {
	mu      sync.Mutex
	calls   int
	life    time.Duration
	latency time.Duration
	err     error
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
	call, life, latency, err := u.calls, u.life, u.latency, u.err
	u.mu.Unlock()
	minted := time.Now()
	// Without a timer of no time: in a bubble of synctest such a one can crash Go's race
	// detector (Go 1.26.8, runtime.(*timer).maybeRunChan).
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
	return NewToken(fmt.Sprintf("token-%d", call), minted.Add(life)), nil
}

func (u *upstream) AccessToken(ctx context.Context, _ identity.Workload, _ Scopes) (Token, error) {
	return u.mint(ctx)
}

func (u *upstream) IDToken(ctx context.Context, _ identity.Workload, _ IDTokenRequest) (Token, error) {
	return u.mint(ctx)
}

// cacheBench is a cache in front of an upstream.
type cacheBench struct {
	*cache
	*upstream
	t        *testing.T
	tasks    *tasks
	registry *prometheus.Registry
}

// newCacheBench makes a cache of tokens that live for an hour.
func newCacheBench(t *testing.T) *cacheBench {
	t.Helper()
	b := &cacheBench{upstream: &upstream{life: time.Hour}, t: t, tasks: newTasks(upstreamTimeout), registry: prometheus.NewRegistry()}
	b.cache = newCache(b.upstream, "tokens", 64, time.Now, b.tasks, newMetrics(b.registry)).outermost()
	t.Cleanup(b.tasks.close)
	return b
}

// get asks for the access token of the linked workload, or fails the test.
func (b *cacheBench) get() Token {
	b.t.Helper()
	token, err := b.cache.AccessToken(b.t.Context(), linked, DefaultScopes())
	check(b.t, err)
	return token
}

// getShort makes the cache hold a token of which 4 minutes are left.
func (b *cacheBench) getShort() {
	b.t.Helper()
	b.get()
	b.upstream.set(func(u *upstream) { u.err = errDown })
	time.Sleep(56 * time.Minute)
	b.upstream.set(func(u *upstream) { u.err = nil })
	synctest.Wait()
	b.cache.mu.Lock()
	defer b.cache.mu.Unlock()
	// Until the next attempt would be made: ahead, if we did not ask first.
	e := b.cache.entries.peek(accessKey(linked, DefaultScopes()))
	e.failures, e.notBefore = 0, time.Time{}
}

// wantToken asks and checks which token comes, and that it comes at once.
func (b *cacheBench) wantToken(want string) {
	b.t.Helper()
	start := time.Now()
	if got := b.get().Value(); got != want {
		b.t.Fatalf("got %s, want %s", got, want)
	}
	if waited := time.Since(start); waited > 0 {
		b.t.Fatalf("the request waited for %s", waited)
	}
}

// held is how many entries there are.
func (c *store) held() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries.held
}

func (c *store) has(k key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries.peek(k) != nil
}

func (b *cacheBench) wantCalls(want int) {
	b.t.Helper()
	if got := b.upstream.count(); got != want {
		b.t.Fatalf("%d calls upstream, want %d", got, want)
	}
}

// hanging is an HTTP client whose requests are never answered.
func hanging() *http.Client {
	return &http.Client{Transport: transport(func(*http.Request) (int, string) { return 0, "" })}
}

// offlineGoogle is a Google that trusts an issuer of KSA tokens.
type offlineGoogle struct {
	*fakegoogle.Running
	issuer *LocalIssuer
	client *http.Client // that reaches it; any where nil
}

// nowhere stands for a Google that is not listening.
var nowhere = &fakegoogle.Running{URL: "https://google.test"}

func startGoogle(t *testing.T) *offlineGoogle {
	t.Helper()
	g := &offlineGoogle{Running: fakegoogle.Start(t, fakegoogle.Options{}), issuer: must(NewLocalIssuer(testIssuer, time.Now))}
	g.AddServiceAccount(testGSA)
	check(t, g.AddProvider(g.provider()))
	return g
}

// googleInBubble is one without a network, for fake time. Its clock is ahead of ours.
func googleInBubble(t *testing.T, ahead time.Duration) *offlineGoogle {
	t.Helper()
	now := func() time.Time { return time.Now().Add(ahead) }
	g := &offlineGoogle{
		Running: &fakegoogle.Running{Server: fakegoogle.New(fakegoogle.Options{Now: now}), URL: nowhere.URL},
		issuer:  must(NewLocalIssuer(testIssuer, now)),
	}
	g.client = &http.Client{Transport: inProcess{g}}
	g.AddServiceAccount(testGSA)
	g.Bind(testGSA, workloadIdentityUser, testCaller)
	check(t, g.AddProvider(g.provider()))
	return g
}

// inProcess calls a handler in place of a server.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	p.ServeHTTP(recorder, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	answer := recorder.Result()
	answer.Request = r
	return answer, nil
}

// wantCalls checks how often each method was called since the last look.
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

// federation is how a node in federation mode is set up, with changes.
func (g *offlineGoogle) federation(changes ...func(*Federation)) Options {
	f := Federation{Provider: testProvider, STSEndpoint: g.URL, Subjects: g.issuer}
	for _, change := range changes {
		change(&f)
	}
	return Options{Federation: &f, HTTPClient: g.client, WorkloadPool: testPool, IAMCredentialsEndpoint: g.URL, IAMEndpoint: g.URL}
}

func (g *offlineGoogle) impersonation(credential oauth2.TokenSource, policy Policy) Options {
	return Options{SourceCredential: credential, Policy: policy, HTTPClient: g.client, WorkloadPool: testPool, IAMCredentialsEndpoint: g.URL, IAMEndpoint: g.URL}
}

// wantGrant checks what Google sees in a token.
func (g *offlineGoogle) wantGrant(t *testing.T, token Token, principal string, through ...string) fakegoogle.Grant {
	t.Helper()
	grant, ok := g.Inspect(token.Value())
	if !ok {
		t.Fatal("Google does not know the token")
	}
	if grant.Principal != principal || strings.Join(grant.DelegationChain, " ") != strings.Join(through, " ") {
		t.Errorf("%s through %v, want %s through %v", grant.Principal, grant.DelegationChain, principal, through)
	}
	if off := token.Expiry.Sub(grant.Expiry).Abs(); off > 2*time.Second {
		t.Errorf("the token's expiry is %s off", off)
	}
	return grant
}

// newEngine makes an engine that ends with the test.
func newEngine(t *testing.T, o Options) *Engine {
	t.Helper()
	if o.HTTPClient == nil {
		// Its own, so that no connection outlives the test.
		transport := &http.Transport{}
		o.HTTPClient = &http.Client{Transport: transport}
		t.Cleanup(transport.CloseIdleConnections)
	}
	e := must(New(o))
	t.Cleanup(e.Close)
	return e
}

// transport answers HTTP requests without a network; status 0 hangs.
type transport func(*http.Request) (status int, body string)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := f(r)
	if status == 0 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// counted is how many requests to a cache had a result.
func counted(registry *prometheus.Registry, result string) float64 {
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

// endpoint is a way to ask a Source.
type endpoint struct {
	name string
	ask  func(context.Context, Source, identity.Workload) (Token, error)
}

// endpoints are both ways.
func endpoints() []endpoint {
	return []endpoint{
		{"access token", func(ctx context.Context, s Source, w identity.Workload) (Token, error) {
			return s.AccessToken(ctx, w, DefaultScopes())
		}},
		{"ID token", func(ctx context.Context, s Source, w identity.Workload) (Token, error) {
			return s.IDToken(ctx, w, IDTokenRequest{Audience: "https://example.com"})
		}},
	}
}
