package tokens

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
)

func TestUnlinkedWorkloadIsItselfInGooglesEyes(t *testing.T) {
	g := startGoogle(t)
	e := newEngine(t, g.federation())
	token, err := e.AccessToken(t.Context(), unlinked, NewScopes(CloudPlatform))
	check(t, err)
	grant := g.wantGrant(t, token, testCaller)
	if grant.KSA != "shop/cart" || grant.Pod != "shop/cart-7d4" || grant.PodUID != "pod-uid" {
		t.Errorf("the token stands for KSA %s, pod %s (%s)", grant.KSA, grant.Pod, grant.PodUID)
	}
	if len(grant.Scopes) != 1 || grant.Scopes[0] != CloudPlatform {
		t.Errorf("scopes %q", grant.Scopes)
	}
	if token.Type != "Bearer" {
		t.Errorf("type %s", token.Type)
	}
}

func TestLinkedWorkloadGetsItsServiceAccountsTokenThroughItself(t *testing.T) {
	g := startGoogle(t)
	g.Bind(testGSA, workloadIdentityUser, testCaller)
	e := newEngine(t, g.federation())
	token, err := e.AccessToken(t.Context(), linked, DefaultScopes())
	check(t, err)
	g.wantGrant(t, token, "serviceAccount:"+testGSA, testCaller)
}

// All that a KSA may have begins with the same federated token.
func TestFederatedTokenIsSharedByAllTokensOfAServiceAccount(t *testing.T) {
	const other = "other@shop-project.iam.gserviceaccount.com"
	g := startGoogle(t)
	e := newEngine(t, g.federation())
	for _, gsa := range []string{testGSA, other} {
		g.Bind(gsa, workloadIdentityUser, testCaller)
		for _, of := range endpoints() {
			w := with(linked, func(w *identity.Workload) { w.GSA = gsa })
			if _, err := of.ask(t.Context(), e, w); err != nil {
				t.Errorf("%s of %s: %v", of.name, gsa, err)
			}
		}
	}
	if got := g.Counters()[fakegoogle.MethodSTSToken]; got != 1 {
		t.Errorf("%d exchanges, want 1", got)
	}
}

// What the operator set up and Google does not accept is told with the provider's
// name: each of these is an opaque 400 at Google.
func TestCredentialThatGoogleDoesNotAcceptIsMisconfigured(t *testing.T) {
	const unknown = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/clusters/providers/nosuch"
	for _, of := range []struct {
		name   string
		change func(*offlineGoogle, *Federation)
		texts  []string
	}{
		{"audience", func(g *offlineGoogle, _ *Federation) {
			p := g.provider()
			p.AllowedAudiences = []string{"another"}
			if err := g.AddProvider(p); err != nil {
				panic(err)
			}
		}, []string{testProvider, "invalid_grant", "The audience in ID Token [https:" + testProvider + "] does not match"}},
		{"unknown provider", func(_ *offlineGoogle, f *Federation) { f.Provider = unknown }, []string{unknown, "invalid_target"}},
		{"expired token", func(g *offlineGoogle, f *Federation) {
			f.Subjects = clockedBack(g.issuer, 2*time.Hour)
		}, []string{testProvider, "invalid_grant", "stale"}},
		{"other issuer", func(_ *offlineGoogle, f *Federation) {
			f.Subjects = must(NewLocalIssuer("https://another", time.Now))
		}, []string{testProvider, "invalid_grant", "The issuer in ID Token https://another does not match"}},
		{"other key", func(_ *offlineGoogle, f *Federation) {
			f.Subjects = must(NewLocalIssuer(testIssuer, time.Now))
		}, []string{testProvider, "invalid_grant"}},
	} {
		t.Run(of.name, func(t *testing.T) {
			g := startGoogle(t)
			e := newEngine(t, g.federation(func(f *Federation) { of.change(g, f) }))
			for _, kind := range endpoints() {
				_, err := kind.ask(t.Context(), e, linked)
				wantError(t, err, Misconfigured, append(of.texts, "shop/cart", "STS returned 400 Bad Request")...)
			}
		})
	}
}

// clockedBack signs with the same key in the past.
func clockedBack(l *LocalIssuer, by time.Duration) *LocalIssuer {
	past := *l
	past.now = func() time.Time { return l.now().Add(-by) }
	return &past
}

// The caller chose the scope: it is not the operator's fault.
func TestUnknownScopeIsTheCallersFault(t *testing.T) {
	g := startGoogle(t)
	g.Bind(testGSA, workloadIdentityUser, testCaller)
	e := newEngine(t, g.federation())
	_, err := e.AccessToken(t.Context(), unlinked, NewScopes("nonsense"))
	wantError(t, err, Invalid, "invalid_scope")
	_, err = e.AccessToken(t.Context(), linked, NewScopes("nonsense"))
	wantError(t, err, Invalid, "IAM returned 400 Bad Request")
}

func TestUnlinkedWorkloadHasNoIDToken(t *testing.T) {
	e := newEngine(t, startGoogle(t).federation())
	_, err := e.IDToken(t.Context(), unlinked, IDTokenRequest{Audience: "a"})
	wantError(t, err, NotLinked, "shop/cart", "kubectl annotate serviceaccount --namespace shop cart iam.gke.io/gcp-service-account=", "Identity Tokens")
}

// Google's own troubles pass: they are told as such, and when to ask again.
func TestFailingGoogleIsUnavailable(t *testing.T) {
	for _, method := range []struct {
		name string
		of   endpoint
	}{
		{fakegoogle.MethodSTSToken, endpoints()[0]},
		{fakegoogle.MethodGenerateAccessToken, endpoints()[0]},
		{fakegoogle.MethodGenerateIDToken, endpoints()[1]},
	} {
		for _, of := range []struct {
			fault fakegoogle.Fault
			text  string
			after time.Duration
		}{
			{fakegoogle.Fault{Status: http.StatusTooManyRequests, RetryAfter: 7 * time.Second}, "429 Too Many Requests", 7 * time.Second},
			{fakegoogle.Fault{Status: http.StatusTooManyRequests}, "429 Too Many Requests", 0},
			{fakegoogle.Fault{Status: http.StatusInternalServerError}, "500 Internal Server Error", 0},
			{fakegoogle.Fault{Status: http.StatusServiceUnavailable, RetryAfter: time.Second}, "503 Service Unavailable", time.Second},
		} {
			t.Run(method.name+" "+of.text, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := googleInBubble(t, 0)
					e := newEngine(t, g.federation())
					g.SetFault(method.name, of.fault)
					ctx, cancel := context.WithTimeout(t.Context(), minPause/4) // no time for another attempt
					defer cancel()
					_, err := method.of.ask(ctx, e, linked)
					if got := wantError(t, err, Unavailable, of.text).RetryAfter; got < of.after || got > of.after+minPause {
						t.Errorf("ask again after %s, want %s", got, of.after)
					}
					g.ClearFaults()
					if _, err := method.of.ask(t.Context(), e, linked); err != nil {
						t.Errorf("after the outage: %v", err)
					}
				})
			})
		}
	}
}

func TestLateGoogleIsUnavailableWithinTheCallersDeadline(t *testing.T) {
	for _, method := range []string{fakegoogle.MethodSTSToken, fakegoogle.MethodGenerateAccessToken} {
		t.Run(method, func(t *testing.T) {
			const latency = 300 * time.Millisecond
			g := startGoogle(t)
			g.Bind(testGSA, workloadIdentityUser, testCaller)
			e := newEngine(t, g.federation())
			g.SetFault(method, fakegoogle.Fault{Latency: latency, Times: 1})
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), latency/10)
			defer cancel()
			_, err := e.AccessToken(ctx, linked, DefaultScopes())
			wantError(t, err, Unavailable, "did not answer in time")
			if waited := time.Since(start); waited >= latency {
				t.Errorf("the caller waited for %s", waited)
			}
			_, err = e.AccessToken(t.Context(), linked, DefaultScopes())
			check(t, err)
			if got := g.Counters()[method]; got != 1 {
				t.Errorf("%d calls, though the first went on", got)
			}
		})
	}
}

func TestHangingGoogleIsGivenUpInTheEnd(t *testing.T) {
	g := &offlineGoogle{Running: nowhere, issuer: must(NewLocalIssuer(testIssuer, time.Now))}
	synctest.Test(t, func(t *testing.T) {
		o := g.federation()
		o.HTTPClient = hanging()
		e := newEngine(t, o)
		start := time.Now()
		_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
		wantError(t, err, Unavailable, "did not answer in time")
		if got := time.Since(start); got != upstreamTimeout {
			t.Errorf("after %s, want %s", got, upstreamTimeout)
		}
	})
}

func TestGoogleThatCannotBeReachedIsUnavailable(t *testing.T) {
	o := startGoogle(t).federation(func(f *Federation) { f.STSEndpoint = "http://127.0.0.1:1" })
	ctx, cancel := context.WithTimeout(t.Context(), minPause/2) // no time for another attempt
	defer cancel()
	_, err := newEngine(t, o).AccessToken(ctx, unlinked, DefaultScopes())
	wantError(t, err, Unavailable, "STS", "could not be reached")
}

// RFC 8693 lets the answer leave out expires_in.
func TestFederatedTokenWithoutExpiryLivesAsLongAsItsSubjectToken(t *testing.T) {
	g := startGoogle(t)
	o := g.federation()
	o.HTTPClient = &http.Client{Transport: transport(func(*http.Request) (int, string) {
		return http.StatusOK, `{"access_token": "federated", "token_type": "Bearer"}`
	})}
	token, err := newEngine(t, o).AccessToken(t.Context(), unlinked, DefaultScopes())
	check(t, err)
	if left := time.Until(token.Expiry); left < 59*time.Minute || left > time.Hour {
		t.Errorf("%s left", left)
	}
}

func TestEngineNeedsOneWayToGoogle(t *testing.T) {
	g := startGoogle(t)
	both := g.federation()
	both.SourceCredential = operator
	for name, o := range map[string]Options{"none": {}, "both": both} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
