package gcs

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"gke-metadata-emulator/integration/internal/standintest"
)

const (
	testBucket = "cellar"
	testGSA    = "cart@demo-project.iam.gserviceaccount.com"

	auth          = "https://www.googleapis.com/auth/"
	cloudPlatform = auth + "cloud-platform"
)

// bench is a stand-in, its offline Google, and its log.
type bench struct {
	*Running
	t      *testing.T
	google *standintest.Google
	log    *standintest.Log
}

func newBench(t *testing.T, change func(*Options)) *bench {
	t.Helper()
	google := standintest.Start(t)
	log := new(standintest.Log)
	opts := Options{Fake: google.URL, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&opts)
	}
	b := &bench{Running: Start(t, opts), t: t, google: google, log: log}
	b.CreateBucket(testBucket)
	return b
}

// token is the access token that the KSA shop/cart gets for its GSA.
func (b *bench) token(scopes ...string) string {
	b.t.Helper()
	return b.google.Token(b.t, "shop", "cart", testGSA, scopes...)
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
