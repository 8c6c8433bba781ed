package tokens

import (
	"context"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
)

func TestFederation_UnlinkedWorkloadIsItsOwnPrincipal(t *testing.T) {
	g := startGoogle(t)
	e := newEngine(t, g.federation())
	token, err := e.AccessToken(t.Context(), unlinked, NewScopes(CloudPlatform))
	check(t, err)
	grant := g.wantGrant(t, token, testCaller)
	if grant.KSA != "shop/cart" || grant.Pod != "shop/cart-7d4" || grant.PodUID != "pod-uid" {
		t.Errorf("the token is that of KSA %s, pod %s (%s)", grant.KSA, grant.Pod, grant.PodUID)
	}
	if len(grant.Scopes) != 1 || grant.Scopes[0] != CloudPlatform {
		t.Errorf("scopes %q", grant.Scopes)
	}
	if token.Type != "Bearer" {
		t.Errorf("type %s", token.Type)
	}
}

func TestFederation_LinkedWorkloadGetsGSAToken(t *testing.T) {
	g := startGoogle(t)
	g.Bind(testGSA, workloadIdentityUser, testCaller)
	e := newEngine(t, g.federation())
	token, err := e.AccessToken(t.Context(), linked, DefaultScopes())
	check(t, err)
	g.wantGrant(t, token, "serviceAccount:"+testGSA, testCaller)
}

// All tokens of a KSA are minted with the same federated token.
func TestFederation_FederatedTokenIsSharedByKSA(t *testing.T) {
	const other = "other@shop-project.iam.gserviceaccount.com"
	g := startGoogle(t)
	e := newEngine(t, g.federation())
	for _, gsa := range []string{testGSA, other} {
		g.Bind(gsa, workloadIdentityUser, testCaller)
		for _, kind := range tokenKinds() {
			w := with(linked, func(w *identity.Workload) { w.GSA = gsa })
			if _, err := kind.request(t.Context(), e, w); err != nil {
				t.Errorf("%s of %s: %v", kind.name, gsa, err)
			}
		}
	}
	if got := g.Counters()[fakegoogle.MethodSTSToken]; got != 1 {
		t.Errorf("%d exchanges, want 1", got)
	}
}

// A setup that Google does not accept is reported with the provider's name. Google's own
// answer to each of these is an opaque 400.
func TestFederation_RejectedCredentialIsMisconfigured(t *testing.T) {
	const unknown = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/clusters/providers/nosuch"
	for _, test := range []struct {
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
		{"unknown provider", func(_ *offlineGoogle, f *Federation) { f.Provider, f.Audience = unknown, unknown }, []string{unknown, "invalid_target"}},
		{"expired token", func(g *offlineGoogle, f *Federation) {
			f.Subjects = backdated(g.issuer, 2*time.Hour)
		}, []string{testProvider, "invalid_grant", "stale"}},
		{"other issuer", func(_ *offlineGoogle, f *Federation) {
			f.Subjects = must(NewLocalIssuer("https://another", time.Now))
		}, []string{testProvider, "invalid_grant", "The issuer in ID Token https://another does not match"}},
		{"other key", func(_ *offlineGoogle, f *Federation) {
			f.Subjects = must(NewLocalIssuer(testIssuer, time.Now))
		}, []string{testProvider, "invalid_grant"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := startGoogle(t)
			e := newEngine(t, g.federation(func(f *Federation) { test.change(g, f) }))
			for _, kind := range tokenKinds() {
				_, err := kind.request(t.Context(), e, linked)
				wantError(t, err, Misconfigured, append(test.texts, "shop/cart", "STS returned 400 Bad Request")...)
			}
		})
	}
}

// backdated signs with the same key in the past.
func backdated(l *LocalIssuer, by time.Duration) *LocalIssuer {
	past := *l
	past.now = func() time.Time { return l.now().Add(-by) }
	return &past
}

// The caller chose the scope, so the operator is not at fault.
func TestFederation_UnknownScopeIsInvalid(t *testing.T) {
	g := startGoogle(t)
	g.Bind(testGSA, workloadIdentityUser, testCaller)
	e := newEngine(t, g.federation())
	_, err := e.AccessToken(t.Context(), unlinked, NewScopes("nonsense"))
	wantError(t, err, Invalid, "invalid_scope")
	_, err = e.AccessToken(t.Context(), linked, NewScopes("nonsense"))
	wantError(t, err, Invalid, "IAM returned 400 Bad Request")
}

func TestFederation_UnlinkedWorkloadHasNoIDToken(t *testing.T) {
	e := newEngine(t, startGoogle(t).federation())
	_, err := e.IDToken(t.Context(), unlinked, IDTokenRequest{Audience: "a"})
	wantError(t, err, NotLinked, "shop/cart", "kubectl annotate serviceaccount --namespace shop cart iam.gke.io/gcp-service-account=", "Identity Tokens")
}

// Google's transient failures are reported as such, with Retry-After.
func TestUpstream_TransientErrorIsUnavailable(t *testing.T) {
	for _, method := range []struct {
		name string
		kind tokenKind
	}{
		{fakegoogle.MethodSTSToken, tokenKinds()[0]},
		{fakegoogle.MethodGenerateAccessToken, tokenKinds()[0]},
		{fakegoogle.MethodGenerateIDToken, tokenKinds()[1]},
	} {
		for _, test := range []struct {
			fault fakegoogle.Fault
			text  string
			after time.Duration
		}{
			{fakegoogle.Fault{Status: http.StatusTooManyRequests, RetryAfter: 7 * time.Second}, "429 Too Many Requests", 7 * time.Second},
			{fakegoogle.Fault{Status: http.StatusTooManyRequests}, "429 Too Many Requests", 0},
			{fakegoogle.Fault{Status: http.StatusInternalServerError}, "500 Internal Server Error", 0},
			{fakegoogle.Fault{Status: http.StatusServiceUnavailable, RetryAfter: time.Second}, "503 Service Unavailable", time.Second},
		} {
			t.Run(method.name+" "+test.text, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := googleInBubble(t, 0)
					e := newEngine(t, g.federation())
					g.SetFault(method.name, test.fault)
					ctx, cancel := context.WithTimeout(t.Context(), minRetryDelay/4) // no time for another attempt
					defer cancel()
					_, err := method.kind.request(ctx, e, linked)
					if got := wantError(t, err, Unavailable, test.text).RetryAfter; got < test.after || got > test.after+minRetryDelay {
						t.Errorf("Retry-After %s, want %s", got, test.after)
					}
					g.ClearFaults()
					if _, err := method.kind.request(t.Context(), e, linked); err != nil {
						t.Errorf("after the outage: %v", err)
					}
				})
			})
		}
	}
}

func TestUpstream_CallerDeadlineEndsWait(t *testing.T) {
	for _, method := range []string{fakegoogle.MethodSTSToken, fakegoogle.MethodGenerateAccessToken} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const latency = 300 * time.Millisecond
				g := googleInBubble(t, 0)
				e := newEngine(t, g.federation())
				g.SetFault(method, fakegoogle.Fault{Latency: latency, Times: 1})
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), latency/10)
				defer cancel()
				_, err := e.AccessToken(ctx, linked, DefaultScopes())
				wantError(t, err, Unavailable, "did not answer in time")
				if waited := time.Since(start); waited != latency/10 {
					t.Errorf("the caller waited for %s", waited)
				}
				_, err = e.AccessToken(t.Context(), linked, DefaultScopes())
				check(t, err)
				if got := g.Counters()[method]; got != 1 {
					t.Errorf("%d calls, although the first went on", got)
				}
			})
		})
	}
}

func TestUpstream_HangingCallEndsAtTimeout(t *testing.T) {
	g := &offlineGoogle{Running: offlineServer, issuer: must(NewLocalIssuer(testIssuer, time.Now))}
	synctest.Test(t, func(t *testing.T) {
		o := g.federation()
		o.HTTPClient, o.Wait = hangingClient(), upstreamTimeout
		e := newEngine(t, o)
		start := time.Now()
		_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
		wantError(t, err, Unavailable, "did not answer in time")
		if got := time.Since(start); got != upstreamTimeout {
			t.Errorf("after %s, want %s", got, upstreamTimeout)
		}
	})
}

func TestUpstream_UnreachableIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := googleInBubble(t, 0).federation()
		o.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, syscall.ECONNREFUSED
		}}}
		ctx, cancel := context.WithTimeout(t.Context(), minRetryDelay/2) // no time for another attempt
		defer cancel()
		_, err := newEngine(t, o).AccessToken(ctx, unlinked, DefaultScopes())
		wantError(t, err, Unavailable, "STS", "could not be reached")
	})
}

// expires_in is optional in RFC 8693.
func TestFederation_TokenWithoutExpiryEndsWithSubjectToken(t *testing.T) {
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

func TestEngine_RequiresExactlyOneCredential(t *testing.T) {
	g := startGoogle(t)
	both := g.federation()
	both.SourceCredential = operator
	for name, o := range map[string]Options{"none": {}, "both": both} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
