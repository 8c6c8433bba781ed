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

var throughTwo = with(linked, func(w *identity.Workload) { w.Delegates = firstHop + "," + secondHop })

// chained makes a Google in which the links of a chain of service accounts are there.
func chained(t *testing.T, from string) *offlineGoogle {
	g := googleInBubble(t, 0)
	g.Unbind(testGSA, workloadIdentityUser, testCaller)
	for _, link := range [][2]string{{firstHop, from}, {secondHop, "serviceAccount:" + firstHop}, {testGSA, "serviceAccount:" + secondHop}} {
		g.AddServiceAccount(link[0])
		g.Bind(link[0], tokenCreator, link[1])
	}
	return g
}

func TestTokenIsReachedThroughTheKSAsDelegates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := chained(t, testCaller)
		e := newEngine(t, g.federation())
		token, err := e.AccessToken(t.Context(), throughTwo, DefaultScopes())
		check(t, err)
		g.wantGrant(t, token, "serviceAccount:"+testGSA, testCaller, "serviceAccount:"+firstHop, "serviceAccount:"+secondHop)
		_, err = e.IDToken(t.Context(), throughTwo, IDTokenRequest{Audience: "a"})
		check(t, err)
		// The chain decides, and what came through it is not for who goes straight.
		_, err = e.AccessToken(t.Context(), linked, DefaultScopes())
		wantError(t, err, Denied)
	})
}

func TestMissingLinkOfAChainIsDeniedWithTheChain(t *testing.T) {
	for of, member := range map[string]string{firstHop: testCaller, secondHop: "serviceAccount:" + firstHop, testGSA: "serviceAccount:" + secondHop} {
		synctest.Test(t, func(t *testing.T) {
			g := chained(t, testCaller)
			g.Unbind(of, tokenCreator, member)
			for _, kind := range endpoints() {
				_, err := kind.ask(t.Context(), newEngine(t, g.federation()), throughTwo)
				wantError(t, err, Denied, "It is reached through "+firstHop+", "+secondHop+": each of these needs roles/iam.serviceAccountTokenCreator on the next, the last on "+testGSA,
					"gcloud iam service-accounts add-iam-policy-binding "+firstHop+" --role=roles/iam.serviceAccountTokenCreator --member=\""+testCaller+"\"")
			}
		})
	}
}

func TestOperatorsDelegatesStandBeforeTheKSAs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := chained(t, "")
		e := newEngine(t, with(g.impersonation(operator, AllowAll{}), func(o *Options) { o.Delegates = []string{firstHop} }))
		chain := e.tokens.next.(limit).next.(guarded).next.(*mint).through(with(linked, func(w *identity.Workload) { w.Delegates = secondHop }))
		if len(chain) != 2 || chain[0] != resource(firstHop) || chain[1] != resource(secondHop) {
			t.Errorf("through %q", chain)
		}
	})
}
