package tokens

import (
	"bytes"
	"log/slog"
	"maps"
	"net/http"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"gke-metadata-emulator/identity"
)

const serviceUsageConsumer = "roles/serviceusage.serviceUsageConsumer"

// recordedCalls are the paths and the quota projects of the calls of IAM, by method.
type recordedCalls struct {
	http.RoundTripper
	mu              sync.Mutex
	paths, projects map[string]string
}

// record makes g record calls.
func (g *offlineGoogle) record() *recordedCalls {
	r := &recordedCalls{RoundTripper: g.client.Transport, paths: map[string]string{}, projects: map[string]string{}}
	g.client.Transport = r
	return r
}

func (r *recordedCalls) RoundTrip(request *http.Request) (*http.Response, error) {
	if _, method, found := strings.Cut(path.Base(request.URL.Path), ":"); found {
		r.mu.Lock()
		r.paths[method], r.projects[method] = request.URL.Path, request.Header.Get("X-Goog-User-Project")
		r.mu.Unlock()
	}
	return r.RoundTripper.RoundTrip(request)
}

// operatorIn is a gcloud login with a quota project and all roles on the test's GSA.
func (g *offlineGoogle) operatorIn(t *testing.T, project string) SourceCredential {
	t.Helper()
	source := gcloudLogin.source(t, g).(sourceFixture)
	source.quotaProject = project
	for _, role := range []string{tokenCreator, policyViewer} {
		g.Bind(testGSA, role, gcloudLogin.member)
	}
	g.Bind(testGSA, workloadIdentityUser, cartMember)
	return source
}

func TestQuotaProject_OfOperatorIsBilledForAllCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		calls := g.record()
		g.Bind("projects/billing", serviceUsageConsumer, gcloudLogin.member)
		e := newEngine(t, g.impersonation(g.operatorIn(t, "billing"), nil))
		for _, kind := range tokenKinds() {
			_, err := kind.request(t.Context(), e, linked)
			check(t, err)
		}
		if want := map[string]string{"getIamPolicy": "billing", "generateAccessToken": "billing", "generateIdToken": "billing"}; !maps.Equal(calls.projects, want) {
			t.Errorf("billed: %v, want %v", calls.projects, want)
		}
		// IAM advises against the wildcard, IAM Credentials requires it.
		want := map[string]string{
			"getIamPolicy":        "/v1/projects/shop-project/serviceAccounts/" + testGSA + ":getIamPolicy",
			"generateAccessToken": "/v1/projects/-/serviceAccounts/" + testGSA + ":generateAccessToken",
			"generateIdToken":     "/v1/projects/-/serviceAccounts/" + testGSA + ":generateIdToken",
		}
		if !maps.Equal(calls.paths, want) {
			t.Errorf("paths: %v, want %v", calls.paths, want)
		}
	})
}

func TestQuotaProject_DeniedOneIsNotTakenForMissingBinding(t *testing.T) {
	for name, policy := range map[string]Policy{"getIamPolicy": nil, "generateAccessToken": AllowAll{}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := googleInBubble(t, 0)
				e := newEngine(t, g.impersonation(g.operatorIn(t, "billing"), policy))
				_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
				wantError(t, err, Misconfigured, "to use project billing", "is the quota project of the source credential", "gcloud projects add-iam-policy-binding billing", "#quota-project")
				if strings.Contains(err.Error(), "service-accounts add-iam-policy-binding") {
					t.Errorf("the GSA's binding is not missing: %v", err)
				}
			})
		})
	}
}

// In impersonation mode Google checks the permission of the operator, who can use many
// projects, and not that of the KSA.
func TestQuotaProject_OfAnnotationNeedsPolicyInImpersonation(t *testing.T) {
	const own, named = "operators", "annotated"
	for name, test := range map[string]struct {
		rules      string
		policy     Policy
		federation bool
		billed     string
	}{
		"no rules":                {"", nil, false, own},
		"listed":                  {"limits: [{namespace: shop, quotaProjects: [other, annotated]}]", nil, false, named},
		"listed for all":          {`limits: [{namespace: "*", quotaProjects: [annotated]}]`, nil, false, named},
		"listed for another":      {"limits: [{namespace: dev, quotaProjects: [annotated]}]", nil, false, own},
		"other project listed":    {"limits: [{namespace: shop, quotaProjects: [annotated2]}]", nil, false, own},
		"no policy":               {"", AllowAll{}, false, named},
		"no policy, but a list":   {"limits: [{namespace: shop, quotaProjects: []}]", AllowAll{}, false, own},
		"federation":              {"", nil, true, named},
		"federation, listed":      {"limits: [{namespace: shop, quotaProjects: [annotated]}]", nil, true, named},
		"federation, none listed": {"limits: [{namespace: shop, quotaProjects: []}]", nil, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := googleInBubble(t, 0)
				calls := g.record()
				for _, project := range []string{own, named} {
					g.Bind("projects/"+project, serviceUsageConsumer, gcloudLogin.member)
					g.Bind("projects/"+project, serviceUsageConsumer, testCaller)
				}
				o := g.impersonation(g.operatorIn(t, own), test.policy)
				if test.federation {
					o = g.federation()
				}
				if test.rules != "" {
					o.Rules = must(ParseRules([]byte(test.rules)))
				}
				var log, audit bytes.Buffer
				o.Log, o.Audit = slog.New(slog.NewTextHandler(&log, nil)), NewAuditLog(&audit)
				annotated := with(linked, func(w *identity.Workload) { w.QuotaProject = named })
				e := newEngine(t, o)
				for _, kind := range tokenKinds() {
					log.Reset()
					token, err := kind.request(t.Context(), e, annotated)
					check(t, err)
					ignored := test.billed != named
					if got := strings.Contains(log.String(), "credential-quota-project is ignored"); got != ignored {
						t.Errorf("%s: warned: %t, want %t: %s", kind.name, got, ignored, log.String())
					}
					if got := strings.Contains(token.origin.Decision, "quota project annotated is ignored"); got != ignored {
						t.Errorf("%s: audit log: %s", kind.name, token.origin.Decision)
					}
				}
				for _, method := range []string{"generateAccessToken", "generateIdToken"} {
					if got := calls.projects[method]; got != test.billed {
						t.Errorf("%s billed %q, want %q", method, got, test.billed)
					}
				}
				if got := calls.projects["getIamPolicy"]; got != "" && got != own {
					t.Errorf("the shared read of the IAM policy billed %q", got)
				}
			})
		})
	}
}
