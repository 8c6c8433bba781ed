package tokens

import (
	"testing"
	"testing/synctest"

	"gke-metadata-emulator/fakegoogle"
)

// The prefetch has met a refusal, and the binding is added before the pod asks.
func TestEngine_ForgottenRefusalIsAskedAgain(t *testing.T) {
	const member = "serviceAccount:" + testPool + "[shop/cart]"
	for name, test := range map[string]struct {
		options func(*testing.T, *offlineGoogle) Options
		fix     func(*testing.T, *offlineGoogle)
		kind    Kind
		text    string
	}{
		"binding": {
			func(t *testing.T, g *offlineGoogle) Options {
				g.Unbind(testGSA, workloadIdentityUser, testCaller)
				return g.federation()
			},
			func(_ *testing.T, g *offlineGoogle) { g.Bind(testGSA, workloadIdentityUser, testCaller) },
			Denied, "IAM returned 403",
		},
		"uploaded keys": {
			func(t *testing.T, g *offlineGoogle) Options {
				p := g.provider()
				p.JWKS = must(must(NewLocalIssuer(testIssuer, g.issuer.now)).JWKS())
				check(t, g.AddProvider(p))
				return g.federation()
			},
			func(t *testing.T, g *offlineGoogle) { check(t, g.AddProvider(g.provider())) },
			Misconfigured, "STS returned 400",
		},
		"binding that the daemon reads": {
			func(t *testing.T, g *offlineGoogle) Options {
				g.Bind(testGSA, tokenCreator, gcloudLogin.member)
				g.Bind(testGSA, policyViewer, gcloudLogin.member)
				o := g.impersonation(gcloudLogin.source(t, g), nil)
				o.Names = testGKENames // of which no KSA is bound
				return o
			},
			func(_ *testing.T, g *offlineGoogle) { g.Bind(testGSA, workloadIdentityUser, member) },
			Denied, "may not use",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := googleInBubble(t, 0)
				e := newEngine(t, test.options(t, g))
				request := func() error {
					_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
					return err
				}
				wantError(t, request(), test.kind, test.text)
				test.fix(t, g)
				wantError(t, request(), test.kind, test.text) // it is cached
				e.ForgetRefusals(linked)
				check(t, request())
			})
		})
	}
}

func TestEngine_ForgottenRefusalKeepsTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		e := newEngine(t, g.federation())
		_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
		check(t, err)
		before := g.Counters()
		e.ForgetRefusals(linked)
		_, err = e.AccessToken(t.Context(), linked, DefaultScopes())
		check(t, err)
		g.wantCalls(t, before, map[string]int{fakegoogle.MethodGenerateAccessToken: 0})
	})
}
