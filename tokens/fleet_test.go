package tokens

import (
	"testing"
	"time"

	"gke-metadata-emulator/fakegoogle"
)

const testMembership = "https://gkehub.googleapis.com/projects/shop-project/locations/global/memberships/on-prem"

// inFleet returns the options of a node whose cluster is a member of the project's fleet.
func (g *offlineGoogle) inFleet(t *testing.T) Options {
	t.Helper()
	check(t, g.AddMembership(fakegoogle.Membership{
		Name: testMembership, WorkloadPool: testPool, ProjectNumber: "123456", Issuer: testIssuer, JWKS: must(g.issuer.JWKS()),
	}))
	o := g.federation(func(f *Federation) {
		f.Provider, f.Audience, f.SubjectAudience = testMembership, "identitynamespace:"+testPool+":"+testMembership, testPool
	})
	o.Names = testGKENames
	return o
}

// A KSA of a fleet has the names of GKE: its binding is that of GKE's documentation, in
// either form.
func TestFleet_KSAIsBoundByGKEsMember(t *testing.T) {
	for _, member := range []string{cartMember, testGKENames.Principal(linked.KSA)} {
		g := startGoogle(t)
		e := newEngine(t, g.inFleet(t))
		g.Bind(testGSA, workloadIdentityUser, member)
		for _, kind := range tokenKinds() {
			if _, err := kind.request(t.Context(), e, linked); err != nil {
				t.Errorf("%s for %s: %v", kind.name, member, err)
			}
		}
		token, err := e.AccessToken(t.Context(), linked, DefaultScopes())
		check(t, err)
		if grant, _ := g.Inspect(token.Value()); grant.Principal != "serviceAccount:"+testGSA || grant.KSA != "shop/cart" {
			t.Errorf("the token is that of %s, minted for KSA %s", grant.Principal, grant.KSA)
		}
		if got := token.origin.Principal; got != cartMember {
			t.Errorf("the principal of the audit log is %s, want %s", got, cartMember)
		}
	}
}

func TestFleet_RefusalNamesGKEsMember(t *testing.T) {
	g := startGoogle(t)
	e := newEngine(t, g.inFleet(t))
	// The same KSA in the pool of a provider is that of another cluster.
	g.Bind(testGSA, workloadIdentityUser, testCaller)
	_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
	wantError(t, err, Denied, `--member="`+cartMember+`"`)
}

func TestFleet_RefusedSignatureNamesRegistration(t *testing.T) {
	g := startGoogle(t)
	o := g.inFleet(t)
	o.Federation.Subjects = must(NewLocalIssuer(testIssuer, time.Now))
	_, err := newEngine(t, o).AccessToken(t.Context(), unlinked, DefaultScopes())
	wantError(t, err, Misconfigured, testMembership, "invalid_grant", "gcloud container fleet memberships register on-prem --project=shop-project --location=global ")
}
