package tokens

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"gke-metadata-emulator/fakegoogle"
)

const secret = "ya29.S3CR3T-T0K3N"

// wantNoSecret searches a text for a secret, and for encodings that a printer can choose.
func wantNoSecret(t *testing.T, where, text, secret string) {
	t.Helper()
	for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprintf("% x", secret), fmt.Sprint([]byte(secret))} {
		if strings.Contains(text, strings.Trim(form, "[]")) {
			t.Errorf("%s shows a token: %s", where, text)
		}
	}
}

func TestToken_NeverPrintsItsValue(t *testing.T) {
	token := NewToken(secret, time.Now())
	if token.Value() != secret {
		t.Fatal("Value does not give the value")
	}
	type exported struct{ Token Token }
	type unexported struct{ token Token }
	holders := map[string]any{
		"token":                       token,
		"pointer":                     &token,
		"exported field":              exported{token},
		"unexported field":            unexported{token},
		"unexported field by pointer": &unexported{token},
		"field of a field":            struct{ inner unexported }{unexported{token}},
		"pointer in a field":          struct{ token *Token }{&token},
		"slice":                       []Token{token},
		"slice of structs":            []unexported{{token}},
		"map":                         map[string]Token{"a": token},
		"interface":                   struct{ any any }{token},
		"entry of the cache":          &entry{token: token},
	}
	for name, holder := range holders {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3v", "%w"} {
			wantNoSecret(t, name+" by "+verb, fmt.Sprintf(verb, holder), secret)
		}
		wantNoSecret(t, name+" by Sprint", fmt.Sprint(holder), secret)
		wantNoSecret(t, name+" in an error", fmt.Errorf("failed: %v", holder).Error(), secret)
		if body, err := json.Marshal(holder); err == nil {
			wantNoSecret(t, name+" as JSON", string(body), secret)
		}
		if body, err := yaml.Marshal(holder); err == nil {
			wantNoSecret(t, name+" as YAML", string(body), secret)
		}
		for format, text := range logOutput(func(l *slog.Logger) { l.Info("x", "a", holder, slog.Group("g", "b", holder)) }) {
			wantNoSecret(t, name+" in a "+format+" log", text, secret)
		}
	}
	for name, text := range map[string]string{"%v": fmt.Sprintf("%v", token), "pointer": fmt.Sprintf("%v", &token)} {
		if text != redacted {
			t.Errorf("%s: %s, want %s", name, text, redacted)
		}
	}
}

func TestToken_ZeroHasNoValue(t *testing.T) {
	if got := (Token{}).Value(); got != "" {
		t.Errorf("got %q", got)
	}
}

// logOutput returns the log output of f by format.
func logOutput(f func(*slog.Logger)) map[string]string {
	var asText, asJSON bytes.Buffer
	f(slog.New(slog.NewTextHandler(&asText, nil)))
	f(slog.New(slog.NewJSONHandler(&asJSON, nil)))
	return map[string]string{"text": asText.String(), "JSON": asJSON.String()}
}

// wiretap records each credential on the wire.
type wiretap struct {
	next http.RoundTripper

	mu   sync.Mutex
	seen map[string]bool
}

func (w *wiretap) RoundTrip(r *http.Request) (*http.Response, error) {
	w.record(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if r.Body != nil {
		body := must(io.ReadAll(r.Body))
		r.Body = io.NopCloser(bytes.NewReader(body))
		if form, err := url.ParseQuery(string(body)); err == nil {
			for _, name := range []string{"subject_token", "refresh_token", "client_secret", "assertion"} {
				w.record(form.Get(name))
			}
		}
	}
	response, err := w.next.RoundTrip(r)
	if err != nil {
		return response, err
	}
	body := must(io.ReadAll(response.Body))
	response.Body = io.NopCloser(bytes.NewReader(body))
	var fields map[string]any
	if json.Unmarshal(body, &fields) == nil {
		for _, name := range []string{"access_token", "accessToken", "token"} {
			value, _ := fields[name].(string)
			w.record(value)
		}
	}
	return response, nil
}

func (w *wiretap) record(credential string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if credential != "" {
		w.seen[credential] = true
	}
}

func TestError_NeverPrintsCredentials(t *testing.T) {
	inner := &http.Transport{}
	t.Cleanup(inner.CloseIdleConnections)
	tap := &wiretap{next: inner, seen: map[string]bool{}}
	g := startGoogle(t)
	engine := func(o Options) *Engine {
		o.HTTPClient = &http.Client{Transport: tap}
		return newEngine(t, o)
	}
	faults := []fakegoogle.Fault{{Status: 400}, {Status: 401}, {Status: 403}, {Status: 404}, {Status: 429}, {Status: 500}, {Latency: 50 * time.Millisecond}}
	failures := map[string]error{}
	collect := func(name string, o Options, methods ...string) {
		for _, method := range methods {
			for _, fault := range faults {
				g.SetFault(method, fault)
				for _, kind := range tokenKinds() {
					wait := 25 * time.Millisecond
					if fault.Status != 0 {
						wait = minRetryDelay / 2 // no time for another attempt
					}
					ctx, cancel := context.WithTimeout(t.Context(), wait)
					if _, err := kind.request(ctx, engine(o), linked); err != nil {
						failures[fmt.Sprintf("%s: %s for %s, %+v", name, method, kind.name, fault)] = err
					}
					cancel()
				}
				g.ClearFaults()
			}
		}
	}
	collect("federation", g.federation(), fakegoogle.MethodSTSToken, fakegoogle.MethodGenerateAccessToken, fakegoogle.MethodGenerateIDToken)
	collect("impersonation", g.impersonation(operator, nil), fakegoogle.MethodGetIAMPolicy)
	collect("impersonation", g.impersonation(operator, AllowAll{}), fakegoogle.MethodGenerateAccessToken, fakegoogle.MethodGenerateIDToken)
	// Last, as these requests succeed and put credentials on the wire.
	g.Bind(testGSA, workloadIdentityUser, testCaller)
	for _, kind := range tokenKinds() {
		if _, err := kind.request(t.Context(), engine(g.federation()), linked); err != nil {
			t.Fatal(err)
		}
	}
	if len(tap.seen) < 5 || len(failures) < 50 {
		t.Fatalf("%d credentials and %d failures: the test is blind", len(tap.seen), len(failures))
	}
	for name, err := range failures {
		logs := logOutput(func(l *slog.Logger) { l.Error("refused", "error", err, "text", fmt.Sprintf("%v %+v", err, err)) })
		text := logs["text"] + logs["JSON"]
		for ; err != nil; err = errors.Unwrap(err) {
			text += err.Error()
		}
		for credential := range tap.seen {
			if strings.Contains(text, credential) {
				t.Errorf("%s shows a credential: %s", name, text)
			}
		}
	}
}
