package gcs

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"gke-metadata-emulator/fakegoogle"
)

const (
	testBucket   = "cellar"
	testGSA      = "cart@demo-project.iam.gserviceaccount.com"
	testPool     = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/clusters"
	testProvider = testPool + "/providers/kind"
	testIssuer   = "https://kubernetes.example"
	testSubject  = "system:serviceaccount:shop:cart"
	testCaller   = "principal:" + testPool + "/subject/" + testSubject

	auth          = "https://www.googleapis.com/auth/"
	cloudPlatform = auth + "cloud-platform"
)

// bench is a stand-in, the Google that it asks, and all that it logs.
type bench struct {
	*Running
	t      *testing.T
	google *fakegoogle.Running
	signer jose.Signer
	log    *logBuffer
}

func newBench(t *testing.T, change func(*Options)) *bench {
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
	if err := google.AddProvider(fakegoogle.Provider{Name: testProvider, Issuer: testIssuer, JWKS: keys}); err != nil {
		t.Fatal(err)
	}
	log := new(logBuffer)
	opts := Options{Fake: google.URL, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&opts)
	}
	b := &bench{Running: Start(t, opts), t: t, google: google, signer: signer, log: log}
	b.CreateBucket(testBucket)
	return b
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// token is the access token that the KSA shop/cart has of its GSA.
func (b *bench) token(scopes ...string) string {
	b.t.Helper()
	now := time.Now()
	ksa, err := jwt.Signed(b.signer).Claims(map[string]any{
		"iss": testIssuer, "sub": testSubject, "aud": "https:" + testProvider,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{"namespace": "shop", "serviceaccount": map[string]any{"name": "cart", "uid": "a1"}},
	}).Serialize()
	if err != nil {
		b.t.Fatal(err)
	}
	var federated struct {
		Token string `json:"access_token"`
	}
	post(b.t, b.google.URL+"/v1/token", "", "application/x-www-form-urlencoded", url.Values{
		"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"subject_token_type":   {"urn:ietf:params:oauth:token-type:jwt"},
		"subject_token":        {ksa},
		"audience":             {testProvider},
		"scope":                {cloudPlatform},
	}.Encode(), &federated)
	body, err := json.Marshal(map[string]any{"scope": scopes})
	if err != nil {
		b.t.Fatal(err)
	}
	var minted struct {
		Token string `json:"accessToken"`
	}
	post(b.t, b.google.URL+"/v1/projects/-/serviceAccounts/"+testGSA+":generateAccessToken", federated.Token, "application/json", string(body), &minted)
	return minted.Token
}

func post(t *testing.T, target, bearer, contentType, body string, answer any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(body))
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
		t.Fatalf("%s: %s %s %v", target, response.Status, text, err)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		t.Fatal(err)
	}
}

// do sends a request by plain HTTP; a token of "" is none.
func (b *bench) do(method, path, token, body string) (*http.Response, string) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, b.URL+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return response, string(text)
}

// last is the record of the last request.
func (b *bench) last() Record {
	b.t.Helper()
	records := b.Records()
	if len(records) == 0 {
		b.t.Fatal("there is no record")
	}
	return records[len(records)-1]
}
