package tokens

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"gke-metadata-emulator/fakegoogle"
)

// tokenSource is a source credential from a function.
type tokenSource func() (*oauth2.Token, error)

func (f tokenSource) Token() (*oauth2.Token, error) { return f() }
func (tokenSource) QuotaProject() string            { return "" }
func (tokenSource) Member() string                  { return "user:$(gcloud config get account)" }

// sourceFixture is a source credential with a quota project and an owner.
type sourceFixture struct {
	oauth2.TokenSource
	quotaProject, member string
}

func (s sourceFixture) QuotaProject() string { return s.quotaProject }
func (s sourceFixture) Member() string       { return s.member }

// operator is a source credential that never fails.
var operator = tokenSource(func() (*oauth2.Token, error) {
	return &oauth2.Token{AccessToken: "operators-own-token", Expiry: time.Now().Add(time.Hour)}, nil
})

// credentialFile is a credential on the operator's disk.
type credentialFile struct {
	kind   google.CredentialsType
	member string // IAM's name of its owner
	read   func(*offlineGoogle) []byte
}

const keyOwner = "emulator@shop-project.iam.gserviceaccount.com"

// gcloudLogin and keyFile are the two kinds that operators use.
var (
	gcloudLogin = credentialFile{google.AuthorizedUser, "user:developer@example.com", func(g *offlineGoogle) []byte {
		return g.AuthorizedUser("developer@example.com", g.URL+"/token")
	}}
	keyFile = credentialFile{google.ServiceAccount, "serviceAccount:" + keyOwner, func(g *offlineGoogle) []byte {
		return must(g.ServiceAccountKey(keyOwner, g.URL+"/token"))
	}}
)

func (f credentialFile) source(t *testing.T, g *offlineGoogle) SourceCredential {
	t.Helper()
	client := g.client
	if client == nil {
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		client = &http.Client{Transport: transport}
	}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, client)
	tokens := must(google.CredentialsFromJSONWithType(ctx, f.read(g), f.kind, CloudPlatform)).TokenSource
	return sourceFixture{TokenSource: tokens, member: f.member}
}

func TestImpersonation_GSATokenIsMintedByOperator(t *testing.T) {
	for _, file := range []credentialFile{gcloudLogin, keyFile} {
		t.Run(string(file.kind), func(t *testing.T) {
			g := startGoogle(t)
			e := newEngine(t, g.impersonation(file.source(t, g), nil))
			g.Bind(testGSA, tokenCreator, file.member)
			g.Bind(testGSA, policyViewer, file.member)
			g.Bind(testGSA, workloadIdentityUser, "serviceAccount:"+testPool+"[shop/cart]")
			token, err := e.AccessToken(t.Context(), linked, DefaultScopes())
			check(t, err)
			g.wantGrant(t, token, "serviceAccount:"+testGSA, file.member)
			id, err := e.IDToken(t.Context(), linked, IDTokenRequest{Audience: "a"})
			check(t, err)
			if id.Type != "JWT" {
				t.Errorf("type of the ID token: %s", id.Type)
			}
			if got := g.Counters()[fakegoogle.MethodOAuth2Token]; got != 1 {
				t.Errorf("%d refreshes of the source credential, want 1", got)
			}
		})
	}
}

func TestImpersonation_DeniesByDefault(t *testing.T) {
	g := startGoogle(t)
	e := newEngine(t, g.impersonation(gcloudLogin.source(t, g), nil))
	g.Bind(testGSA, tokenCreator, gcloudLogin.member)
	g.Bind(testGSA, policyViewer, gcloudLogin.member)
	for _, test := range tokenKinds() {
		_, err := test.request(t.Context(), e, linked)
		wantError(t, err, Denied, "shop/cart may not use "+testGSA)
	}
	for method, want := range map[string]int{fakegoogle.MethodGenerateAccessToken: 0, fakegoogle.MethodGenerateIDToken: 0, fakegoogle.MethodGetIAMPolicy: 1} {
		if got := g.Counters()[method]; got != want {
			t.Errorf("%d calls of %s, want %d", got, method, want)
		}
	}
}

// No workload gets the operator's own token.
func TestImpersonation_UnlinkedWorkloadNeverGetsOperatorsToken(t *testing.T) {
	e := newEngine(t, startGoogle(t).impersonation(operator, AllowAll{}))
	for _, test := range tokenKinds() {
		token, err := test.request(t.Context(), e, unlinked)
		wantError(t, err, NotLinked, "is not annotated with a target Google service account", "kubectl annotate serviceaccount --namespace shop cart ")
		if token.Value() != "" {
			t.Errorf("%s: got a token", test.name)
		}
	}
}

// The remedy names the operator's missing role, and not the KSA's binding, which exists.
func TestImpersonation_MissingOperatorRoleNamesRemedy(t *testing.T) {
	g := startGoogle(t)
	e := newEngine(t, g.impersonation(gcloudLogin.source(t, g), AllowAll{}))
	for _, test := range tokenKinds() {
		_, err := test.request(t.Context(), e, linked)
		wantError(t, err, Denied, "IAM returned 403 Forbidden: Permission ", "source credential needs "+tokenCreator+" on "+testGSA,
			"gcloud iam service-accounts add-iam-policy-binding "+testGSA+" --role="+tokenCreator)
	}
}

func TestSourceCredential_RefusedIsMisconfigured(t *testing.T) {
	for _, test := range []struct {
		file   credentialFile
		revoke func(*offlineGoogle)
	}{
		{gcloudLogin, func(g *offlineGoogle) {
			g.SetFault(fakegoogle.MethodOAuth2Token, fakegoogle.Fault{Status: http.StatusBadRequest})
		}},
		{keyFile, func(g *offlineGoogle) { g.RemoveServiceAccount(keyOwner) }},
	} {
		t.Run(string(test.file.kind), func(t *testing.T) {
			g := startGoogle(t)
			e := newEngine(t, g.impersonation(test.file.source(t, g), AllowAll{}))
			test.revoke(g)
			_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
			wantError(t, err, Misconfigured, "source credential of the metadata server", "400 Bad Request: invalid_")
		})
	}
}

func TestSourceCredential_FailedRefreshIsUnavailable(t *testing.T) {
	unreachable := tokenSource(func() (*oauth2.Token, error) { return nil, errors.New("no route") })
	for name, test := range map[string]struct {
		tokens SourceCredential // default: gcloudLogin
		fault  fakegoogle.Fault
		text   string
		after  time.Duration
	}{
		"busy":        {nil, fakegoogle.Fault{Status: http.StatusTooManyRequests, RetryAfter: 3 * time.Second}, "429 Too Many Requests", 3 * time.Second},
		"broken":      {nil, fakegoogle.Fault{Status: http.StatusBadGateway}, "502 Bad Gateway", 0},
		"unreachable": {unreachable, fakegoogle.Fault{}, "could not be reached", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := googleInBubble(t, 0)
				if test.tokens == nil {
					test.tokens = gcloudLogin.source(t, g)
				}
				g.SetFault(fakegoogle.MethodOAuth2Token, test.fault)
				ctx, cancel := context.WithTimeout(t.Context(), minRetryDelay/2) // no time for another attempt
				defer cancel()
				_, err := newEngine(t, g.impersonation(test.tokens, AllowAll{})).AccessToken(ctx, linked, DefaultScopes())
				if got := wantError(t, err, Unavailable, test.text).RetryAfter; got < test.after || got > test.after+minRetryDelay {
					t.Errorf("Retry-After %s, want %s", got, test.after)
				}
			})
		})
	}
}

// oauth2's sources take no context, so one goroutine waits for them, not one for each
// request.
func TestSourceCredential_HangingRefreshHoldsOneGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		calls := 0
		s := &sourceCredential{metrics: newMetrics(prometheus.NewRegistry()), SourceCredential: tokenSource(func() (*oauth2.Token, error) {
			calls++
			<-release
			return &oauth2.Token{AccessToken: "late"}, nil
		})}
		before := runtime.NumGoroutine()
		for range 50 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := s.bearer(ctx, linked)
			cancel()
			wantError(t, err, Unavailable, "did not answer in time")
		}
		synctest.Wait()
		if got := runtime.NumGoroutine() - before; calls != 1 || got > 5 {
			t.Errorf("%d calls and %d goroutines", calls, got)
		}
		close(release)
		synctest.Wait()
	})
}
