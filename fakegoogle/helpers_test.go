package fakegoogle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	testPool     = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/clusters"
	testProvider = testPool + "/providers/kind"
	testIssuer   = "https://kubernetes.default.svc.cluster.local"
	testSubject  = "system:serviceaccount:shop:cart"
	testCaller   = "principal:" + testPool + "/subject/" + testSubject
	testGSA      = "cart@demo-project.iam.gserviceaccount.com"

	tokenCreator = "roles/iam.serviceAccountTokenCreator"
	wiUser       = "roles/iam.workloadIdentityUser"
)

// startTime is the first time of the tests' clock.
var startTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// clock is a clock that only the test advances.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Keys are slow to generate under the race detector, so all tests share one of each.
var (
	issuerRSA = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	otherRSA  = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	issuerEC  = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
)

func must[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}

func testJWKS() []byte {
	return must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: &issuerRSA().PublicKey, KeyID: "rsa", Algorithm: "RS256", Use: "sig"},
		{Key: &issuerEC().PublicKey, KeyID: "ec", Algorithm: "ES256", Use: "sig"},
	}}))
}

// sign returns a JWT with the claims.
func sign(alg jose.SignatureAlgorithm, key any, kid string, claims map[string]any) string {
	options := &jose.SignerOptions{}
	if kid != "" {
		options = options.WithHeader("kid", kid)
	}
	return must(jwt.Signed(must(jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options))).Claims(claims).Serialize())
}

// podClaims are the claims of a bound service account token, with changes: see
// changed.
func podClaims(now time.Time, changes map[string]any) map[string]any {
	return changed(map[string]any{
		"iss": testIssuer,
		"sub": testSubject,
		"aud": []string{"https:" + testProvider},
		"iat": now.Unix(),
		"nbf": now.Unix(),
		"exp": now.Add(2 * time.Hour).Unix(),
		"kubernetes.io": map[string]any{
			"namespace":      "shop",
			"pod":            map[string]any{"name": "cart-7d4", "uid": "5b2d"},
			"serviceaccount": map[string]any{"name": "cart", "uid": "a1"},
		},
	}, changes)
}

// changed returns claims with changes. A nil value removes a claim.
func changed(claims, changes map[string]any) map[string]any {
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

func podToken(now time.Time, changes map[string]any) string {
	return sign(jose.RS256, issuerRSA(), "rsa", podClaims(now, changes))
}

// fixture is a Server under test, with a clock that only the test advances.
type fixture struct {
	*Server
	t     *testing.T
	clock *clock
}

// newFixture returns a Server that knows the tests' provider.
func newFixture(t *testing.T, opts Options) *fixture {
	t.Helper()
	g := newEmptyFixture(t, opts)
	g.addProvider(Provider{})
	return g
}

// newEmptyFixture returns a Server that knows nothing.
func newEmptyFixture(t *testing.T, opts Options) *fixture {
	t.Helper()
	c := &clock{now: startTime}
	opts.Now = c.Now
	return &fixture{Server: New(opts), t: t, clock: c}
}

// addProvider registers the tests' provider with the other fields of p.
func (g *fixture) addProvider(p Provider) {
	g.t.Helper()
	p.Name, p.Issuer, p.JWKS = testProvider, testIssuer, testJWKS()
	if err := g.AddProvider(p); err != nil {
		g.t.Fatal(err)
	}
}

// Bind is [Server.Bind]; the test fails if the binding is refused.
func (g *fixture) Bind(resource, role, member string) {
	g.t.Helper()
	(&Running{Server: g.Server, t: g.t}).Bind(resource, role, member)
}

// response is the answer to a request.
type response struct {
	status int
	header http.Header
	body   []byte
}

func (a response) decode(t *testing.T) map[string]any {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal(a.body, &body); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	return body
}

// field returns a string in the JSON answer by its path; empty if there is none.
func (a response) field(t *testing.T, path ...string) string {
	t.Helper()
	var v any = a.decode(t)
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	s, _ := v.(string)
	return s
}

func (g *fixture) do(method, target string, header map[string]string, body string) response {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for name, value := range header {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	result := w.Result()
	return response{result.StatusCode, result.Header, must(io.ReadAll(result.Body))}
}

func (g *fixture) form(target string, values map[string]string) response {
	form := url.Values{}
	for name, value := range values {
		if value != "" {
			form.Set(name, value)
		}
	}
	return g.do("POST", target, map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, form.Encode())
}

// exchangeForm is a valid token exchange.
func exchangeForm(subjectToken string) map[string]string {
	return map[string]string{
		"grant_type":           "urn:ietf:params:oauth:grant-type:token-exchange",
		"requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
		"subject_token_type":   "urn:ietf:params:oauth:token-type:jwt",
		"subject_token":        subjectToken,
		"audience":             testProvider,
		"scope":                scopeCloudPlatform,
	}
}

// federate exchanges a pod's token for a federated token.
func (g *fixture) federate(changes map[string]any) string {
	g.t.Helper()
	got := g.form("/v1/token", exchangeForm(podToken(g.Now(), changes)))
	if got.status != http.StatusOK {
		g.t.Fatalf("exchange: %d %s", got.status, got.body)
	}
	return got.field(g.t, "access_token")
}

func (g *fixture) Now() time.Time { return g.clock.Now() }

// call calls a verb of a service account.
func (g *fixture) call(bearer, email, verb string, body any) response {
	return g.callBilled(bearer, "", email, verb, body)
}

// callBilled calls a verb of a service account with a quota project.
func (g *fixture) callBilled(bearer, quotaProject, email, verb string, body any) response {
	header := map[string]string{"Content-Type": "application/json"}
	if bearer != "" {
		header["Authorization"] = "Bearer " + bearer
	}
	if quotaProject != "" {
		header["X-Goog-User-Project"] = quotaProject
	}
	var buffer bytes.Buffer
	if body != nil {
		buffer.Write(must(json.Marshal(body)))
	}
	return g.do("POST", "/v1/projects/-/serviceAccounts/"+email+":"+verb, header, buffer.String())
}

// accessToken issues a token of a service account without a request.
func (g *fixture) accessToken(email string, scopes ...string) string {
	g.mu.Lock()
	owner := g.ensureAccount(email)
	g.mu.Unlock()
	token, _ := g.issue(owner.grant(grant{Grant: Grant{Scopes: scopes}}), time.Hour)
	return token
}

// checkAPIError checks every part of a Google API's error that clients read.
func checkAPIError(t *testing.T, got response, code int, status, text string) {
	t.Helper()
	if got.status != code {
		t.Fatalf("status %d, want %d: %s", got.status, code, got.body)
	}
	if ct := got.header.Get("Content-Type"); ct != "application/json; charset=UTF-8" {
		t.Errorf("Content-Type %q", ct)
	}
	var body struct {
		Error struct {
			Code            int
			Message, Status string
		}
	}
	if err := json.Unmarshal(got.body, &body); err != nil {
		t.Fatal(err)
	}
	if body.Error.Code != code || body.Error.Status != status || !strings.Contains(body.Error.Message, text) {
		t.Errorf("error %s, want %d %s with %q", got.body, code, status, text)
	}
}

func checkOAuthError(t *testing.T, got response, status int, code, text string) {
	t.Helper()
	if got.status != status || got.field(t, "error") != code || !strings.Contains(got.field(t, "error_description"), text) {
		t.Errorf("%d %s, want %d %s with %q", got.status, got.body, status, code, text)
	}
}
