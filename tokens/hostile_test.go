package tokens

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/identity"
)

// Operators paste commands from messages, so nothing that a pod chose may look like one.
func TestScopeRefusal_QuotesScope(t *testing.T) {
	limits := must(NewLimits(nil, []string{"https://www.googleapis.com/auth/devstorage.read_only"}, 0))
	_, _, err := limits.narrow(linked, NewScopes("x\ngcloud\tprojects\tdelete\tprod\n\x1b[8m"))
	if err == nil || strings.Contains(err.Error(), "\ngcloud") || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("message %v", err)
	}
}

// Somebody who inspects the TLS connections can write the answers of Google.
func TestRemedy_NoCommandHasForgedMetadata(t *testing.T) {
	for reason, metadata := range map[string]string{
		"SERVICE_DISABLED":         `"service": "iam.googleapis.com; id", "consumer": "projects/$(id)"`,
		"USER_PROJECT_DENIED":      `"consumer": "projects/x;id\u001b[2K\nrm -rf ~ #"`,
		"SECURITY_POLICY_VIOLATED": `"uid": "x\u001b[2K\nid"`,
	} {
		synctest.Test(t, func(t *testing.T) {
			g := googleInBubble(t, 0)
			g.client = &http.Client{Transport: intercept{mintCall, func(*http.Request) (int, string) {
				return http.StatusForbidden, apiError(http.StatusForbidden, "no", reason, metadata)
			}, g.client.Transport}}
			_, err := newEngine(t, g.federation()).AccessToken(t.Context(), linked, DefaultScopes())
			for _, forged := range []string{"; id", ";id", "$(id)", "\nid", "\nrm", "\x1b"} {
				if strings.Contains(err.Error(), forged) {
					t.Errorf("%s: %q contains %q", reason, err, forged)
				}
			}
			if !strings.Contains(err.Error(), "docs/troubleshooting.md#") {
				t.Errorf("%s: no remedy in %q", reason, err)
			}
		})
	}
}

func TestIAMPolicy_ReadWithPreviousCredentialIsNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		g.Bind(testGSA, tokenCreator, gcloudLogin.member)
		var renewed atomic.Bool
		g.client = &http.Client{Transport: intercept{policyCall, func(*http.Request) (int, string) {
			if !renewed.Load() {
				time.Sleep(5 * time.Second) // in the bubble
				return http.StatusUnauthorized, apiError(http.StatusUnauthorized, "previous credential", "", "")
			}
			return http.StatusOK, `{"version":3,"bindings":[{"role":"roles/iam.workloadIdentityUser","members":["` + cartMember + `"]}]}`
		}, g.client.Transport}}
		e := newEngine(t, g.impersonation(g.operatorIn(t, ""), nil))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := e.AccessToken(ctx, linked, DefaultScopes())
		wantError(t, err, Unavailable)
		renewed.Store(true)
		e.SourceCredentialChanged()
		start := time.Now()
		if _, err := e.AccessToken(t.Context(), linked, DefaultScopes()); err != nil || time.Since(start) > 0 {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}

// The rows of a standalone server can name one KSA with two quota projects.
func TestCache_RefusalHoldsForAllQuotaProjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		b.upstream.set(func(u *upstream) { u.err = &Error{Kind: Denied, Message: "no"} })
		for _, project := range []string{"one", "two", "one", "two"} {
			_, err := b.cache.AccessToken(t.Context(), with(linked, func(w *identity.Workload) { w.QuotaProject = project }), DefaultScopes())
			wantError(t, err, Denied)
		}
		if n := b.upstream.count(); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}
