package fakegoogle

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	otherPool  = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/others"
	gkePoolKSA = "serviceAccount:demo-project.svc.id.goog[shop/cart]"
)

// Members in pools that do not exist, and of unknown kinds, are refused as IAM does.
func TestBind_RefusesMembersThatIAMRefuses(t *testing.T) {
	const gkePool = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/demo-project.svc.id.goog"
	const noPool = " Please check that you specified a valid resource name as returned in the `name` attribute in the configuration API."
	for name, test := range map[string]struct {
		member string
		want   string // empty: stored
	}{
		"user":                        {"user:dev@example.com", ""},
		"group":                       {"group:devs@example.com", ""},
		"subject":                     {testCaller, ""},
		"set":                         {"principalSet:" + testPool + "/attribute.repository/x", ""},
		"GKE's form":                  {gkePoolKSA, ""},
		"GKE's principal":             {"principal:" + gkePool + "/subject/ns/shop/sa/cart", ""},
		"GKE's namespace":             {"principalSet:" + gkePool + "/namespace/shop", ""},
		"GKE's form, no pool":         {"serviceAccount:other-project.svc.id.goog[shop/cart]", "Identity Pool does not exist (other-project.svc.id.goog)." + noPool},
		"GKE's form, a user's pool":   {"serviceAccount:clusters[shop/cart]", "Identity Pool does not exist (clusters)." + noPool},
		"subject, no pool":            {"principal:" + otherPool + "/subject/x", "Identity Pool does not exist (projects/123456/locations/global/workloadIdentityPools/others)." + noPool},
		"subject, another project":    {strings.Replace(testCaller, "123456", "654321", 1), "Identity Pool does not exist (projects/654321/"},
		"subject, the project's ID":   {strings.Replace(testCaller, "123456", "demo-project", 1), "Identity Pool does not exist (projects/demo-project/"},
		"set, no pool":                {"principalSet:" + otherPool + "/*", "Identity Pool does not exist (projects/123456/"},
		"set without a project":       {"principalSet://iam.googleapis.com/clusters/attribute.x/y", "Invalid principalSet member (principalSet://iam.googleapis.com/clusters/attribute.x/y)."},
		"principal that is a set":     {"principal:" + testPool + "/*", "Invalid principal member"},
		"set that is a principal":     {"principalSet:" + testPool + "/subject/x", "Invalid principalSet member"},
		"GKE's form without KSA":      {"serviceAccount:demo-project.svc.id.goog[shop]", "Invalid service account"},
		"address without kind":        {"dev@example.com", "The member dev@example.com is of an unknown type. Please set a valid type prefix for the member."},
		"kind in other letters":       {"serviceaccount:a@b.iam.gserviceaccount.com", "is of an unknown type"},
		"kind that is a Kubernetes'":  {"system:serviceaccount:shop:cart", "is of an unknown type"},
		"principal of another domain": {"principal://example.com/x", "is of an unknown type"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newFixture(t, Options{})
			must(0, g.AddGKEPool("demo-project", "123456"))
			err := g.Server.Bind(testGSA, wiUser, test.member)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refusal, ok := errors.AsType[*Error](err)
			if !ok || refusal.Code != http.StatusBadRequest || refusal.Status != "INVALID_ARGUMENT" || !strings.Contains(refusal.Message, test.want) {
				t.Errorf("error %v, want 400 INVALID_ARGUMENT with %q", err, test.want)
			}
			if _, stored := g.policies[testGSA]; stored {
				t.Error("the binding was stored")
			}
		})
	}
}

// AddPool, AddProvider, AddGKEPool and AddMembership make the pool for which a binding
// was refused.
func TestBind_AcceptsMembersOfNewPools(t *testing.T) {
	subject := "principal:" + otherPool + "/subject/x"
	for name, test := range map[string]struct {
		member string
		create func(*fixture) error
	}{
		"pool":       {subject, func(g *fixture) error { return g.AddPool(otherPool) }},
		"provider":   {testCaller, func(g *fixture) error { g.addProvider(Provider{}); return nil }},
		"GKE":        {gkePoolKSA, func(g *fixture) error { return g.AddGKEPool("demo-project", "123456") }},
		"membership": {fleetKSA, func(g *fixture) error { return g.AddMembership(testMembership()) }},
		"colon":      {"serviceAccount:demo.example.com.svc.id.goog[shop/cart]", func(g *fixture) error { return g.AddGKEPool("example.com:demo", "1") }},
	} {
		t.Run(name, func(t *testing.T) {
			g := newEmptyFixture(t, Options{})
			if err := g.Server.Bind(testGSA, wiUser, test.member); err == nil {
				t.Error("no error before the pool was made")
			}
			must(0, test.create(g))
			must(0, test.create(g)) // a second time changes nothing
			must(0, g.Server.Bind(testGSA, wiUser, test.member))
		})
	}
}

func TestPool_NamesAreGooglesForms(t *testing.T) {
	const parent = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/"
	for _, id := range []string{"abc", strings.Repeat("a", 33), "gcp-pool", "Pool", "my.pool", "demo-project.svc.id.goog", ""} {
		s := New(Options{})
		if err := s.AddPool(parent + id); err == nil {
			t.Errorf("pool %q was created", id)
		}
		if err := s.AddProvider(Provider{Name: parent + id + "/providers/kind", Issuer: testIssuer, JWKS: testJWKS()}); err == nil {
			t.Errorf("provider of pool %q was created", id)
		}
		if err := s.AddProvider(Provider{Name: testPool + "/providers/" + id, Issuer: testIssuer, JWKS: testJWKS()}); err == nil {
			t.Errorf("provider %q was created", id)
		}
	}
	if err := New(Options{}).AddGKEPool("demo-project", "demo"); err == nil {
		t.Error("a project ID was accepted as a number")
	}
	g := newEmptyFixture(t, Options{})
	must(0, g.AddGKEPool("demo-project", "123456"))
	if err := g.AddGKEPool("demo-project", "654321"); err == nil {
		t.Error("one pool is in two projects")
	}
}

func wantCode(t *testing.T, err error, code int, status string) {
	t.Helper()
	if refusal, ok := errors.AsType[*Error](err); !ok || refusal.Code != code || refusal.Status != status {
		t.Errorf("error %v, want %d %s", err, code, status)
	}
}

func TestPool_IsRestoredWithin30Days(t *testing.T) {
	g := newFixture(t, Options{ExtendedLifetime: true})
	g.Bind(testGSA, wiUser, testCaller)
	federated := g.federate(nil)
	mint := func() response {
		return g.call(federated, testGSA, "generateAccessToken", object{"scope": cloudPlatform})
	}
	wantCode(t, g.DeletePool(otherPool), 404, "NOT_FOUND")
	wantCode(t, g.UndeletePool(testPool), 400, "FAILED_PRECONDITION")
	must(0, g.DeletePool(testPool))
	wantCode(t, g.DeletePool(testPool), 400, "FAILED_PRECONDITION")

	checkOAuthError(t, g.form("/v1/token", exchangeForm(podToken(g.Now(), nil))), 400, "invalid_target", "deleted")
	checkAPIError(t, mint(), 403, "PERMISSION_DENIED", permGetAccessToken)
	if _, live := g.Inspect(federated); live {
		t.Error("a token of the deleted pool is live")
	}
	wantCode(t, g.Server.Bind(testGSA, tokenCreator, testCaller), 400, "INVALID_ARGUMENT")
	wantCode(t, g.AddPool(testPool), 409, "ALREADY_EXISTS")
	wantCode(t, g.AddProvider(Provider{Name: testProvider, Issuer: testIssuer, JWKS: testJWKS()}), 409, "ALREADY_EXISTS")

	must(0, g.UndeletePool(testPool))
	if got := mint(); got.status != http.StatusOK {
		t.Errorf("after undelete: %d %s", got.status, got.body)
	}

	must(0, g.DeletePool(testPool))
	g.clock.advance(restorable - time.Second)
	wantCode(t, g.AddPool(testPool), 409, "ALREADY_EXISTS")
	g.clock.advance(time.Second)
	wantCode(t, g.UndeletePool(testPool), 404, "NOT_FOUND")
	must(0, g.AddPool(testPool))
	checkOAuthError(t, g.form("/v1/token", exchangeForm(podToken(g.Now(), nil))), 400, "invalid_target", "") // its providers are gone
}

func TestProvider_IsRestoredWithin30Days(t *testing.T) {
	g := newFixture(t, Options{})
	g.Bind(testGSA, wiUser, testCaller)
	federated := g.federate(nil)
	again := func() error {
		return g.AddProvider(Provider{Name: testProvider, Issuer: testIssuer, JWKS: testJWKS()})
	}
	wantCode(t, g.DeleteProvider(testProvider+"x"), 404, "NOT_FOUND")
	must(0, g.DeleteProvider(testProvider))
	checkOAuthError(t, g.form("/v1/token", exchangeForm(podToken(g.Now(), nil))), 400, "invalid_target", "deleted")
	if got := g.call(federated, testGSA, "generateAccessToken", object{"scope": cloudPlatform}); got.status != http.StatusOK {
		t.Errorf("a token that was issued before: %d %s", got.status, got.body)
	}
	wantCode(t, again(), 409, "ALREADY_EXISTS")
	must(0, g.UndeleteProvider(testProvider))
	g.federate(nil)
	must(0, g.DeleteProvider(testProvider))
	g.clock.advance(restorable)
	wantCode(t, g.UndeleteProvider(testProvider), 404, "NOT_FOUND")
	must(0, again())
}

// Even if everybody may do everything, a token of a deleted pool may do nothing.
func TestAllowAll_ExceptsDeletedPools(t *testing.T) {
	g := newFixture(t, Options{AllowAll: true})
	federated := g.federate(nil)
	must(0, g.DeletePool(testPool))
	checkAPIError(t, g.call(federated, testGSA, "generateAccessToken", object{"scope": cloudPlatform}), 403, "PERMISSION_DENIED", "")
}
