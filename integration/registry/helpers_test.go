package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
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
	testHost      = "europe-west1-docker.pkg.dev"
	testImage     = "demo-project/images/team/app"
	testName      = "projects/demo-project/locations/europe-west1/repositories/images"
	testGSA       = "builder@demo-project.iam.gserviceaccount.com"
	testPrincipal = "serviceAccount:" + testGSA
	testPool      = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/clusters"
	testProvider  = testPool + "/providers/kind"
	testIssuer    = "https://kubernetes.example"
	testSubject   = "system:serviceaccount:ci:builder"
	testCaller    = "principal:" + testPool + "/subject/" + testSubject

	auth          = "https://www.googleapis.com/auth/"
	cloudPlatform = auth + "cloud-platform"

	reader = "roles/artifactregistry.reader"
	writer = "roles/artifactregistry.writer"
	admin  = "roles/artifactregistry.repoAdmin"
)

// bench is a stand-in behind TLS, the Google that it asks, and all that it logs.
type bench struct {
	*Server
	t        *testing.T
	policies *Policies
	google   *fakegoogle.Running
	signer   jose.Signer
	log      *logBuffer
	client   *http.Client // which finds the stand-in by all names
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, policies: new(Policies), google: fakegoogle.Start(t, fakegoogle.Options{AllowAll: true}), log: new(logBuffer)}
	b.policies.Create(testName)
	b.trustKeys()
	var err error
	b.Server, err = New(Options{
		Fake: b.google.URL, Policy: b.policies, Log: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(b.Server)
	t.Cleanup(server.Close)
	authorities := x509.NewCertPool()
	authorities.AddCert(server.Certificate())
	b.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: authorities, ServerName: "example.com"}, // whose certificate httptest has
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
		},
	}}
	t.Cleanup(b.client.CloseIdleConnections)
	return b
}

func (b *bench) trustKeys() {
	b.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.t.Fatal(err)
	}
	b.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Algorithm: "RS256", Use: "sig"}}})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.google.AddProvider(fakegoogle.Provider{Name: testProvider, Issuer: testIssuer, JWKS: keys}); err != nil {
		b.t.Fatal(err)
	}
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

func (b *bench) bind(role string) {
	b.t.Helper()
	if err := b.policies.Bind(testName, role, testPrincipal); err != nil {
		b.t.Fatal(err)
	}
}

// token is the access token that the KSA ci/builder has of its GSA.
func (b *bench) token(scopes ...string) string {
	b.t.Helper()
	now := time.Now()
	ksa, err := jwt.Signed(b.signer).Claims(map[string]any{
		"iss": testIssuer, "sub": testSubject, "aud": "https:" + testProvider,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{"namespace": "ci", "serviceaccount": map[string]any{"name": "builder", "uid": "a1"}},
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

// credential is put on a request.
type credential func(*http.Request)

func nobody(*http.Request) {}

func asBearer(token string) credential {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func asPassword(user, token string) credential {
	return func(r *http.Request) { r.SetBasicAuth(user, token) }
}

// do sends a request to the stand-in of a host.
func (b *bench) do(method, target string, who credential) (*http.Response, string) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, "https://"+target, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	who(request)
	response, err := b.client.Do(request)
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

// refused checks an answer against the code and the message that it is to have.
func (b *bench) refused(response *http.Response, text string, status int, code, message string) {
	b.t.Helper()
	var body struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(text), &body); err != nil || len(body.Errors) != 1 {
		b.t.Errorf("%s %q: %v", response.Status, text, err)
		return
	}
	if response.StatusCode != status || body.Errors[0].Code != code || body.Errors[0].Message != message {
		b.t.Errorf("%s %s, want %d %s %s", response.Status, text, status, code, message)
	}
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
