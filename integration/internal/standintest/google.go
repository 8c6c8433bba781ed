package standintest

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"gke-metadata-emulator/fakegoogle"
)

const (
	pool     = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/clusters"
	provider = pool + "/providers/kind"
	issuer   = "https://kubernetes.example"

	// CloudPlatform is the scope for everything.
	CloudPlatform = "https://www.googleapis.com/auth/cloud-platform"
)

// Google is a fakegoogle that trusts the key of a cluster. All principals are allowed
// everything.
type Google struct {
	*fakegoogle.Running
	signer jose.Signer
}

// Start starts a fakegoogle for the lifetime of the test.
func Start(t testing.TB) *Google {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Algorithm: "RS256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	google := fakegoogle.Start(t, fakegoogle.Options{AllowAll: true})
	if err := google.AddProvider(fakegoogle.Provider{Name: provider, Issuer: issuer, JWKS: keys}); err != nil {
		t.Fatal(err)
	}
	return &Google{Running: google, signer: signer}
}

// Principal is the federated principal of a KSA, as fakegoogle reports it.
func Principal(namespace, ksa string) string {
	return "principal:" + pool + "/subject/system:serviceaccount:" + namespace + ":" + ksa
}

// Token is the access token that a KSA gets for a GSA.
func (g *Google) Token(t testing.TB, namespace, ksa, gsa string, scopes ...string) string {
	t.Helper()
	return g.mint(t, g.federated(t, namespace, ksa), gsa, scopes...)
}

// ExpiredToken is an access token that has expired.
func (g *Google) ExpiredToken(t testing.TB, namespace, ksa, gsa string, scopes ...string) string {
	t.Helper()
	// Only the minted token may expire soon: the federated one has to last until the mint.
	federated := g.federated(t, namespace, ksa)
	g.SetTokenLifetime(time.Second)
	token := g.mint(t, federated, gsa, scopes...)
	g.SetTokenLifetime(time.Hour)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for _, live := g.Inspect(token); live; _, live = g.Inspect(token) {
		<-ticker.C
	}
	return token
}

// federated exchanges a token of the KSA.
func (g *Google) federated(t testing.TB, namespace, ksa string) string {
	t.Helper()
	now := time.Now()
	token, err := jwt.Signed(g.signer).Claims(map[string]any{
		"iss": issuer, "sub": "system:serviceaccount:" + namespace + ":" + ksa, "aud": "https:" + provider,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{"namespace": namespace, "serviceaccount": map[string]any{"name": ksa, "uid": "a1"}},
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	var federated struct {
		Token string `json:"access_token"`
	}
	g.Post(t, "/v1/token", "", "application/x-www-form-urlencoded", url.Values{
		"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"subject_token_type":   {"urn:ietf:params:oauth:token-type:jwt"},
		"subject_token":        {token},
		"audience":             {provider},
		"scope":                {CloudPlatform},
	}.Encode(), &federated)
	return federated.Token
}

// mint requests a token of the GSA with a federated token.
func (g *Google) mint(t testing.TB, federated, gsa string, scopes ...string) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"scope": scopes})
	if err != nil {
		t.Fatal(err)
	}
	var minted struct {
		Token string `json:"accessToken"`
	}
	g.Post(t, "/v1/projects/-/serviceAccounts/"+gsa+":generateAccessToken", federated, "application/json", string(body), &minted)
	return minted.Token
}

// Post sends a request, with a token unless it is empty, and decodes the answer.
func (g *Google) Post(t testing.TB, path, bearer, contentType, body string, answer any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", path, response.Status, text, err)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		t.Fatal(err)
	}
}
