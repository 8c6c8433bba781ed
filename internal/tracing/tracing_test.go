package tracing

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

const secret = "ya29.secret"

// fakeCollector is a collector of spans.
type fakeCollector struct {
	mu    sync.Mutex
	spans map[string]*spans.Span // by name
	raw   []byte
}

func newCollector(t *testing.T) (*fakeCollector, string) {
	t.Helper()
	s := &fakeCollector{spans: map[string]*spans.Span{}}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/traces" {
			t.Errorf("the spans are sent to %s, want /v1/traces", r.URL)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		var request collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &request); err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.raw = append(s.raw, body...)
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					s.spans[span.Name] = span
				}
			}
		}
	}))
	t.Cleanup(server.Close)
	return s, server.URL
}

// httpSource requests tokens from a server over HTTP.
type httpSource struct {
	client *http.Client
	url    string
	err    error
}

func (m httpSource) AccessToken(ctx context.Context, _ identity.Workload, _ tokens.Scopes) (tokens.Token, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url, strings.NewReader(secret))
	if err != nil {
		return tokens.Token{}, err
	}
	request.Header.Set("Authorization", "Bearer "+secret)
	response, err := m.client.Do(request)
	if err != nil {
		return tokens.Token{}, err
	}
	return tokens.Token{}, errors.Join(m.err, response.Body.Close())
}

func (m httpSource) IDToken(context.Context, identity.Workload, tokens.IDTokenRequest) (tokens.Token, error) {
	return tokens.Token{}, errors.New("denied")
}

func TestTracing_RecordsMintWithCalls(t *testing.T) {
	s, url := newCollector(t)
	googleHeaders := make(chan http.Header, 1)
	google := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { googleHeaders <- r.Header }))
	t.Cleanup(google.Close)
	tracing, err := New(t.Context(), url, "node-1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: tracing.Transport(http.DefaultTransport)}
	w := identity.Workload{Pod: identity.Pod{Namespace: "shop", Name: "cart-0"}, KSA: identity.ServiceAccount{Name: "cart"}, GSA: "cart@x"}
	source := tracing.Source(httpSource{client: client, url: google.URL})
	if _, err := source.AccessToken(t.Context(), w, tokens.DefaultScopes()); err != nil {
		t.Fatal(err)
	}
	if header := <-googleHeaders; header.Get("Traceparent") != "" {
		t.Errorf("the request to Google has a header of the trace: %v", header)
	}
	if _, err := source.IDToken(t.Context(), w, tokens.IDTokenRequest{Audience: "https://app"}); err == nil {
		t.Error("the failed mint returned no error")
	}
	// A request outside of a mint has no span.
	if _, err := (httpSource{client: client, url: google.URL}).AccessToken(t.Context(), w, nil); err != nil {
		t.Fatal(err)
	}
	if err := tracing.Close(); err != nil {
		t.Fatal(err)
	}

	mint, failed := s.spans["mint access token"], s.spans["mint ID token"]
	call := s.spans["POST "+strings.TrimPrefix(google.URL, "http://")]
	if len(s.spans) != 3 || mint == nil || failed == nil || call == nil {
		t.Fatalf("spans %v, want those of two mints and one call", s.spans)
	}
	if string(call.ParentSpanId) != string(mint.SpanId) || string(call.TraceId) != string(mint.TraceId) {
		t.Error("the call's span is not a child of the mint's")
	}
	if failed.Status.Code != spans.Status_STATUS_CODE_ERROR || failed.Status.Message != "denied" {
		t.Errorf("the status of the failed mint is %v", failed.Status)
	}
	for _, want := range []string{"shop", "cart-0", "cart@x", "cloud-platform", "https://app", "node-1"} {
		if !strings.Contains(string(s.raw), want) {
			t.Errorf("the trace does not contain %s", want)
		}
	}
	if strings.Contains(string(s.raw), secret) {
		t.Error("the trace contains a token")
	}
}

func TestTracing_LogsUnreachableCollector(t *testing.T) {
	var log strings.Builder
	tracing, err := New(t.Context(), "http://127.0.0.1:1", "node-1", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	google := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(google.Close)
	if _, err := tracing.Source(httpSource{client: google.Client(), url: google.URL}).AccessToken(t.Context(), identity.Workload{}, nil); err != nil {
		t.Error(err)
	}
	if err := tracing.Close(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "traces could not be sent and are lost") {
		t.Errorf("the log is %q", log.String())
	}
}
