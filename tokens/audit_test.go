package tokens

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/identity"
)

// sink is the destination of an audit log. Its writes block until hold is closed; nil
// does not block.
type sink struct {
	hold chan struct{}
	err  error

	mu      sync.Mutex
	written bytes.Buffer
	writes  []int // their sizes in bytes
}

func (s *sink) Write(line []byte) (int, error) {
	if s.hold != nil {
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	s.writes = append(s.writes, len(line))
	return s.written.Write(line)
}

// lines returns the written lines once all goroutines of the bubble are idle.
func (s *sink) lines(t *testing.T) (lines []map[string]any) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range strings.Lines(s.written.String()) {
		var fields map[string]any
		check(t, json.Unmarshal([]byte(line), &fields))
		lines = append(lines, fields)
	}
	return lines
}

// newAuditedEngine returns an engine with an audit log that writes to a sink.
func (g *offlineGoogle) newAuditedEngine(t *testing.T, to *sink, o Options) (*Engine, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	o.Audit, o.Metrics = NewAuditLog(to), registry
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { o.Audit.Run(ctx); close(ended) }()
	e := newEngine(t, o)
	t.Cleanup(func() { cancel(); <-ended })
	return e, registry
}

// auditRecords is the number of audit records with a result.
func auditRecords(registry *prometheus.Registry, result string) int {
	for _, family := range must(registry.Gather()) {
		for _, metric := range family.GetMetric() {
			if family.GetName() == "gme_audit_records_total" && metric.GetLabel()[0].GetValue() == result {
				return int(metric.GetCounter().GetValue())
			}
		}
	}
	return 0
}

func TestAuditLog_RecordsIssuedTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, to := googleInBubble(t, 0), &sink{}
		o := g.federation()
		o.Limits = must(NewLimits(nil, []string{CloudPlatform}, 0))
		e, registry := g.newAuditedEngine(t, to, o)
		requested := time.Now()
		token, err := e.AccessToken(t.Context(), linked, DefaultScopes())
		check(t, err)
		_, err = e.AccessToken(t.Context(), linked, DefaultScopes())
		check(t, err)
		id, err := e.IDToken(t.Context(), linked, IDTokenRequest{Audience: "https://example.com"})
		check(t, err)

		digest := func(token Token) string {
			return fmt.Sprintf("%x", sha256.Sum256([]byte(token.Value())))[:12]
		}
		common := map[string]any{
			"time": requested.UTC().Format(time.RFC3339Nano), "namespace": "shop", "pod": "cart-7d4", "podUID": "pod-uid", "ksa": "shop/cart", "gsa": testGSA,
			"outcome": "ok", "principal": testCaller,
		}
		access := map[string]any{
			"request": "accessToken", "source": "mint", "scopes": []any{CloudPlatform, userinfoEmail}, "grantedScopes": CloudPlatform,
			"decision":    "Google's IAM decides; the metadata server's flags limit namespace shop to the scopes " + CloudPlatform,
			"tokenSHA256": digest(token), "expires": token.Expiry.UTC().Format(time.RFC3339),
		}
		claims, _, err := parseJWT(id.Value())
		check(t, err)
		idToken := map[string]any{
			"request": "idToken", "source": "mint", "audience": "https://example.com", "decision": "Google's IAM decides",
			"tokenSHA256": digest(id), "expires": id.Expiry.UTC().Format(time.RFC3339), "gsaUniqueID": claims.Subject,
		}
		lines := to.lines(t)
		if len(lines) != 3 {
			t.Fatalf("%d lines", len(lines))
		}
		for i, fields := range []map[string]any{access, access, idToken} {
			want := map[string]any{}
			for _, part := range []map[string]any{common, fields} {
				for name, value := range part {
					want[name] = value
				}
			}
			if i == 1 {
				want["source"] = "cache"
			}
			if got := fmt.Sprint(lines[i]); got != fmt.Sprint(want) {
				t.Errorf("line %d:\n%s, want\n%s", i, got, want)
			}
		}
		for _, secret := range []Token{token, id} {
			wantNoSecret(t, "the audit log", to.written.String(), secret.Value())
		}
		if got := auditRecords(registry, "written"); got != 3 {
			t.Errorf("%d records counted as written", got)
		}
	})
}

func TestAuditLog_RecordsKSATokenID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := record{workload: linked, token: NewToken(secret, time.Now()).withOrigin(func(o *origin) { o.CredentialID = "JTI=1" })}.line()
		if line.CredentialID != "JTI=1" {
			t.Errorf("%+v", line)
		}
	})
}

func TestAuditLog_RecordsRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, to := googleInBubble(t, 0), &sink{}
		g.Unbind(testGSA, workloadIdentityUser, testCaller)
		e, _ := g.newAuditedEngine(t, to, g.federation())
		for range 2 {
			_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
			wantError(t, err, Denied)
		}
		lines := to.lines(t)
		for i, source := range []string{"mint", "cache"} {
			line := lines[i]
			if line["outcome"] != "denied" || line["source"] != source || line["decision"] != "Google's IAM decides" || !strings.Contains(fmt.Sprint(line["message"]), "IAM returned 403 Forbidden") {
				t.Errorf("line %d: %v", i, line)
			}
			for _, field := range []string{"tokenSHA256", "expires"} {
				if line[field] != nil {
					t.Errorf("a refusal has %s", field)
				}
			}
		}
	})
}

// Callers control the length of these fields.
func TestAuditLog_BoundsCallerInput(t *testing.T) {
	long := strings.Repeat("a", 5000)
	for _, line := range []auditLine{
		record{workload: linked, id: true, audience: long}.line(),
		record{workload: linked, scopes: Scopes{long}}.line(),
		record{workload: linked, err: &Error{Kind: Denied, Message: long}}.line(),
	} {
		if got := len(must(json.Marshal(line))); got > 2*maxAuditField {
			t.Errorf("a line of %d bytes", got)
		}
	}
}

func TestAuditLog_NeverBlocksRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, to := googleInBubble(t, 0), &sink{hold: make(chan struct{})}
		e, registry := g.newAuditedEngine(t, to, g.federation())
		request := func() {
			t.Helper()
			_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
			check(t, err)
		}
		request()
		synctest.Wait() // the log blocks now
		for range auditBuffer + 100 {
			request()
		}
		close(to.hold)
		if got := len(to.lines(t)); got != 1+auditBuffer {
			t.Errorf("%d lines", got)
		}
		if got := auditRecords(registry, "dropped"); got != 100 {
			t.Errorf("%d records counted as dropped, want 100", got)
		}
		to.mu.Lock()
		to.err = errors.New("disk full")
		to.mu.Unlock()
		request()
		synctest.Wait()
		if got := auditRecords(registry, "failed"); got != 1 {
			t.Errorf("%d records counted as failed, want 1", got)
		}
	})
}

func TestAuditLog_DrainsOnShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &sink{}
		log := NewAuditLog(to)
		log.counts = newMetrics(prometheus.NewRegistry()).audited
		source := audited{next: &upstream{lifetime: time.Hour}, log: log, now: time.Now}
		for range 40 {
			_, err := source.AccessToken(t.Context(), identity.Workload{}, DefaultScopes())
			check(t, err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		log.Run(ended)
		if got := len(to.lines(t)); got != 40 {
			t.Errorf("%d lines of 40", got)
		}
		if len(to.writes) >= 40 || slices.Max(to.writes) > maxAuditWrite {
			t.Errorf("writes of %v bytes: lines that wait share writes of up to %d bytes", to.writes, maxAuditWrite)
		}
	})
}
