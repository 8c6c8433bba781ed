package tokens

import (
	"testing"
	"testing/synctest"

	"gke-metadata-emulator/identity"
)

const (
	firstHop  = "first@shop-project.iam.gserviceaccount.com"
	secondHop = "second@shop-project.iam.gserviceaccount.com"
)

var linkedByDelegates = with(linked, func(w *identity.Workload) { w.Delegates = firstHop + "," + secondHop })

// googleWithChain returns a Google with all links of a chain of service accounts.
func googleWithChain(t *testing.T, from string) *offlineGoogle {
	g := googleInBubble(t, 0)
	g.Unbind(testGSA, workloadIdentityUser, testCaller)
	for _, link := range [][2]string{{firstHop, from}, {secondHop, "serviceAccount:" + firstHop}, {testGSA, "serviceAccount:" + secondHop}} {
		g.AddServiceAccount(link[0])
		if link[1] == "" {
			continue
		}
		g.Bind(link[0], tokenCreator, link[1])
	}
	return g
}

func TestDelegates_ReachGSAThroughChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleWithChain(t, testCaller)
		e := newEngine(t, g.federation())
		token, err := e.AccessToken(t.Context(), linkedByDelegates, DefaultScopes())
		check(t, err)
		g.wantGrant(t, token, "serviceAccount:"+testGSA, testCaller, "serviceAccount:"+firstHop, "serviceAccount:"+secondHop)
		_, err = e.IDToken(t.Context(), linkedByDelegates, IDTokenRequest{Audience: "a"})
		check(t, err)
		// The token of a chain is not for a workload without the chain.
		_, err = e.AccessToken(t.Context(), linked, DefaultScopes())
		wantError(t, err, Denied)
	})
}

func TestDelegates_MissingLinkIsDeniedWithChain(t *testing.T) {
	for gsa, member := range map[string]string{firstHop: testCaller, secondHop: "serviceAccount:" + firstHop, testGSA: "serviceAccount:" + secondHop} {
		synctest.Test(t, func(t *testing.T) {
			g := googleWithChain(t, testCaller)
			g.Unbind(gsa, tokenCreator, member)
			for _, kind := range tokenKinds() {
				_, err := kind.request(t.Context(), newEngine(t, g.federation()), linkedByDelegates)
				wantError(t, err, Denied, "It is reached through "+firstHop+", "+secondHop+": each of these needs roles/iam.serviceAccountTokenCreator on the next, the last on "+testGSA,
					"gcloud iam service-accounts add-iam-policy-binding "+firstHop+" --role=roles/iam.serviceAccountTokenCreator --member=\""+testCaller+"\"")
			}
		})
	}
}

func TestDelegates_OperatorsPrecedeKSAs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleWithChain(t, "")
		e := newEngine(t, with(g.impersonation(operator, AllowAll{}), func(o *Options) { o.Delegates = []string{firstHop} }))
		chain := e.tokens.next.(limited).next.(guarded).next.(*mint).delegateChain(with(linked, func(w *identity.Workload) { w.Delegates = secondHop }))
		if len(chain) != 2 || chain[0] != resource(firstHop) || chain[1] != resource(secondHop) {
			t.Errorf("chain %q", chain)
		}
	})
}
