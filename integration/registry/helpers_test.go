package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"gke-metadata-emulator/integration/internal/standintest"
)

const (
	testHost      = "europe-west1-docker.pkg.dev"
	testImage     = "demo-project/images/team/app"
	testName      = "projects/demo-project/locations/europe-west1/repositories/images"
	testGSA       = "builder@demo-project.iam.gserviceaccount.com"
	testPrincipal = "serviceAccount:" + testGSA

	auth          = "https://www.googleapis.com/auth/"
	cloudPlatform = auth + "cloud-platform"

	reader = "roles/artifactregistry.reader"
	writer = "roles/artifactregistry.writer"
	admin  = "roles/artifactregistry.repoAdmin"
)

// bench is a stand-in behind TLS, its offline Google, and its log.
type bench struct {
	*Server
	t        *testing.T
	policies *Policies
	google   *standintest.Google
	log      *standintest.Log
	client   *http.Client // which finds the stand-in by all names
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, policies: new(Policies), google: standintest.Start(t), log: new(standintest.Log)}
	b.policies.Create(testName)
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
		TLSClientConfig: &tls.Config{RootCAs: authorities, ServerName: "example.com"}, // name in the certificate of httptest
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
		},
	}}
	t.Cleanup(b.client.CloseIdleConnections)
	return b
}

func (b *bench) bind(role string) {
	b.t.Helper()
	if err := b.policies.Bind(testName, role, testPrincipal); err != nil {
		b.t.Fatal(err)
	}
}

// token is the access token that the KSA ci/builder gets for its GSA.
func (b *bench) token(scopes ...string) string {
	b.t.Helper()
	return b.google.Token(b.t, "ci", "builder", testGSA, scopes...)
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
func (b *bench) do(method, target string, sign credential) (*http.Response, string) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, "https://"+target, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	sign(request)
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
