package clients

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"gke-metadata-emulator/integration/gcs"
	"gke-metadata-emulator/integration/internal/certs"
)

const (
	bucket        = "cellar"
	storageHost   = "storage.googleapis.com"
	registryHost  = "europe-docker.pkg.dev"
	cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"
)

// google is Google's services as a sandbox has them: each demands a token of the
// offline Google that the metadata server uses, and one of the right GSA.
type google struct {
	fake        string // base URL of the offline Google
	storage     *gcs.Server
	registry    *imageRegistry
	certificate tls.Certificate
	ca          []byte
	hosts       map[string]http.Handler
}

// newGoogle makes services that the principal may use.
func newGoogle(t testing.TB, fake, principal string) *google {
	t.Helper()
	g := &google{fake: fake}
	var err error
	g.storage, err = gcs.New(gcs.Options{Fake: fake, Authorize: func(_, caller, _ string) bool { return caller == principal }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.storage.Close)
	g.storage.CreateBucket(bucket)
	g.registry = newImageRegistry(g, principal)
	at, err := url.Parse(fake)
	if err != nil {
		t.Fatal(err)
	}
	offline := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(at) }}
	storage := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = storageHost // by both of its names
		g.storage.ServeHTTP(w, r)
	})
	g.hosts = map[string]http.Handler{
		storageHost: storage, "www.googleapis.com": storage, registryHost: g.registry,
		"oauth2.googleapis.com": offline, "iamcredentials.googleapis.com": offline,
	}
	names := []string{}
	for name := range g.hosts {
		names = append(names, name)
	}
	if g.certificate, g.ca, err = certs.New(names...); err != nil {
		t.Fatal(err)
	}
	return g
}

// names are the names that a client can resolve, and their addresses.
func (g *google) names() map[string]string {
	names := map[string]string{"metadata.google.internal": metadataAddress}
	for name := range g.hosts {
		names[name] = googleAddress
	}
	return names
}

// serve answers for all services until the test ends.
func (g *google) serve(t testing.TB, listener net.Listener) {
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if handler := g.hosts[r.Host]; handler != nil {
				handler.ServeHTTP(w, r)
				return
			}
			t.Errorf("a request for the host %q", r.Host)
			http.NotFound(w, r)
		}),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{g.certificate}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(testWriter{t}, "", 0),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.ServeTLS(listener, "", "") // always an error, http.ErrServerClosed after Close
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
}

// testWriter is the log of a test.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

// grant is what the offline Google reports about a token.
type grant struct {
	Principal string    `json:"principal"`
	Scopes    []string  `json:"scopes"`
	Expiry    time.Time `json:"expires_at"`
}

// inspect is an error for a token that is none, or none any more.
func (g *google) inspect(ctx context.Context, token string) (grant, error) {
	var found grant
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.fake+"/fakegoogle/v1/token", nil)
	if err != nil {
		return found, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return found, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return found, fmt.Errorf("the offline Google does not take the token: %s", response.Status)
	}
	return found, json.NewDecoder(response.Body).Decode(&found)
}

// claims of an ID token.
type claims struct {
	Audience string `json:"aud"`
	Email    string `json:"email"`
	Issuer   string `json:"iss"`
}

// claims verifies an ID token with Google's keys.
func (g *google) claims(ctx context.Context, token string) (claims, error) {
	var found claims
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.fake+"/oauth2/v3/certs", nil)
	if err != nil {
		return found, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return found, err
	}
	defer response.Body.Close()
	var keys jose.JSONWebKeySet
	if err := json.NewDecoder(response.Body).Decode(&keys); err != nil {
		return found, err
	}
	signed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return found, err
	}
	return found, signed.Claims(keys, &found)
}
