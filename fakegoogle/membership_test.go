package fakegoogle

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	fleetPool      = "fleet-project.svc.id.goog"
	fleetPoolName  = "//iam.googleapis.com/projects/777/locations/global/workloadIdentityPools/" + fleetPool
	fleetName      = "https://gkehub.googleapis.com/projects/fleet-project/locations/global/memberships/kind"
	fleetAudience  = "identitynamespace:" + fleetPool + ":" + fleetName
	fleetKSA       = "serviceAccount:" + fleetPool + "[shop/cart]"
	fleetPrincipal = "principal:" + fleetPoolName + "/subject/ns/shop/sa/cart"
)

func testMembership() Membership {
	return Membership{Name: fleetName, WorkloadPool: fleetPool, ProjectNumber: "777", Issuer: testIssuer, JWKS: testJWKS()}
}

// fleetExchange exchanges a token of the fleet's cluster, with changes to its claims.
func (g *fixture) fleetExchange(changes object) response {
	claims := object{"aud": []string{fleetPool}}
	form := exchangeForm(podToken(g.Now(), changed(claims, changes)))
	form["audience"] = fleetAudience
	return g.form("/v1/token", form)
}

// A KSA of a fleet has the names that GKE gives it, and no other.
func TestMembership_NamesKSAsAsGKEDoes(t *testing.T) {
	for member, want := range map[string]bool{
		fleetKSA:       true,
		fleetPrincipal: true,
		"principalSet:" + fleetPoolName + "/namespace/shop":                            true,
		"principalSet:" + fleetPoolName + "/*":                                         true,
		"serviceAccount:" + fleetPool + "[shop/admin]":                                 false,
		"principalSet:" + fleetPoolName + "/namespace/other":                           false,
		"principal:" + fleetPoolName + "/subject/system:serviceaccount:shop:cart":      false,
		"serviceAccount:demo-project.svc.id.goog[shop/cart]":                           false,
		"principal:" + testPool + "/subject/ns/shop/sa/cart":                           false,
		strings.Replace(testCaller, "system:serviceaccount:shop:cart", "shop:cart", 1): false,
	} {
		t.Run(member, func(t *testing.T) {
			g := newFixture(t, Options{})
			must(0, g.AddMembership(testMembership()))
			must(0, g.AddGKEPool("demo-project", "123456"))
			g.Bind(testGSA, wiUser, member)
			federated := g.fleetExchange(nil)
			if federated.status != http.StatusOK {
				t.Fatalf("%d %s", federated.status, federated.body)
			}
			token := federated.field(t, "access_token")
			if granted, _ := g.Inspect(token); granted.Principal != fleetPrincipal || granted.KSA != "shop/cart" || granted.Pod != "shop/cart-7d4" {
				t.Errorf("grant %+v", granted)
			}
			if got := g.call(token, testGSA, "generateAccessToken", object{"scope": cloudPlatform}); (got.status == http.StatusOK) != want {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
}

func TestMembership_VerifiesTokens(t *testing.T) {
	for name, test := range map[string]struct {
		changes    object
		code, text string
	}{
		"issuer":                {object{"iss": "https://other"}, "invalid_grant", "issuer"},
		"a provider's audience": {object{"aud": "https:" + testProvider}, "invalid_grant", "audience"},
		"the STS audience":      {object{"aud": fleetAudience}, "invalid_grant", "audience"},
		"expired":               {object{"exp": startTime.Unix()}, "invalid_grant", "stale"},
		"issued a day ago":      {object{"iat": startTime.Add(-25 * time.Hour).Unix()}, "invalid_grant", "stale"},
		"no KSA":                {object{"sub": "somebody"}, "unauthorized_client", "google.subject"},
		"long name":             {object{"sub": "system:serviceaccount:" + strings.Repeat("n", 63) + ":" + strings.Repeat("k", 60)}, "invalid_request", "127 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newFixture(t, Options{})
			must(0, g.AddMembership(testMembership()))
			checkOAuthError(t, g.fleetExchange(test.changes), 400, test.code, test.text)
		})
	}
	g := newFixture(t, Options{})
	checkOAuthError(t, g.fleetExchange(nil), 400, "invalid_target", "")
	must(0, g.AddMembership(testMembership()))
	foreign := exchangeForm(sign("RS256", otherRSA(), "rsa", podClaims(startTime, object{"aud": fleetPool})))
	foreign["audience"] = fleetAudience
	checkOAuthError(t, g.form("/v1/token", foreign), 400, "invalid_grant", "signature")
	g.fleetExchange(nil)
	must(0, g.DeleteProvider(fleetName))
	checkOAuthError(t, g.fleetExchange(nil), 400, "invalid_target", "")
	must(0, g.AddMembership(testMembership())) // its name is free again
}

func TestAddMembership_ChecksFields(t *testing.T) {
	for name, change := range map[string]func(*Membership){
		"resource name": func(m *Membership) { m.Name = "projects/p/locations/global/memberships/kind" },
		"http":          func(m *Membership) { m.Name = strings.Replace(m.Name, "https", "http", 1) },
		"no membership": func(m *Membership) { m.Name = strings.TrimSuffix(m.Name, "kind") },
		"pool":          func(m *Membership) { m.WorkloadPool = "clusters" },
		"number":        func(m *Membership) { m.ProjectNumber = "fleet-project" },
		"issuer":        func(m *Membership) { m.Issuer = "http://localhost" },
		"keys":          func(m *Membership) { m.JWKS = []byte("{") },
	} {
		t.Run(name, func(t *testing.T) {
			m := testMembership()
			change(&m)
			if err := New(Options{}).AddMembership(m); err == nil {
				t.Error("no error")
			}
		})
	}
}
