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

// tokenSource is a source credential that a function gives.
type tokenSource func() (*oauth2.Token, error)

func (f tokenSource) Token() (*oauth2.Token, error) { return f() }

// operator is a source credential that is always there.
var operator = tokenSource(func() (*oauth2.Token, error) {
	return &oauth2.Token{AccessToken: "operators-own-token", Expiry: time.Now().Add(time.Hour)}, nil
})

// credentialFile is a credential that an operator has on disk.
type credentialFile struct {
	kind   google.CredentialsType
	member string // as IAM names its owner
	read   func(*offlineGoogle) []byte
}

const keyed = "emulator@shop-project.iam.gserviceaccount.com"

// gcloudLogin and keyFile are the two that operators use.
var (
	gcloudLogin = credentialFile{google.AuthorizedUser, "user:developer@example.com", func(g *offlineGoogle) []byte {
		return g.AuthorizedUser("developer@example.com", g.URL+"/token")
	}}
	keyFile = credentialFile{google.ServiceAccount, "serviceAccount:" + keyed, func(g *offlineGoogle) []byte {
		return must(g.ServiceAccountKey(keyed, g.URL+"/token"))
	}}
)

func (f credentialFile) source(t *testing.T, g *offlineGoogle) oauth2.TokenSource {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Transport: transport})
	return must(google.CredentialsFromJSONWithType(ctx, f.read(g), f.kind, CloudPlatform)).TokenSource
}

func TestImpersonationGivesTheServiceAccountsTokenThroughTheOperator(t *testing.T) {
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

func TestImpersonationDeniesByDefault(t *testing.T) {
	g := startGoogle(t)
	e := newEngine(t, g.impersonation(gcloudLogin.source(t, g), nil))
	g.Bind(testGSA, tokenCreator, gcloudLogin.member)
	g.Bind(testGSA, policyViewer, gcloudLogin.member)
	for _, of := range endpoints() {
		_, err := of.ask(t.Context(), e, linked)
		wantError(t, err, Denied, "shop/cart may not use "+testGSA)
	}
	for method, want := range map[string]int{fakegoogle.MethodGenerateAccessToken: 0, fakegoogle.MethodGenerateIDToken: 0, fakegoogle.MethodGetIAMPolicy: 1} {
		if got := g.Counters()[method]; got != want {
			t.Errorf("%d calls of %s, want %d", got, method, want)
		}
	}
}

// The operator's own token is nobody's.
func TestUnlinkedWorkloadNeverGetsTheOperatorsToken(t *testing.T) {
	e := newEngine(t, startGoogle(t).impersonation(operator, AllowAll{}))
	for _, of := range endpoints() {
		token, err := of.ask(t.Context(), e, unlinked)
		wantError(t, err, NotLinked, "is not annotated with a target Google service account", "kubectl annotate serviceaccount --namespace shop cart ")
		if token.Value() != "" {
			t.Errorf("%s: got one", of.name)
		}
	}
}

// What the operator lacks is told as the operator's to mend: the KSA's binding is
// there.
func TestOperatorWithoutTheRightToImpersonateIsTold(t *testing.T) {
	g := startGoogle(t)
	e := newEngine(t, g.impersonation(gcloudLogin.source(t, g), AllowAll{}))
	for _, of := range endpoints() {
		_, err := of.ask(t.Context(), e, linked)
		wantError(t, err, Denied, "IAM returned 403 Forbidden: Permission ", "source credential needs "+tokenCreator+" on "+testGSA,
			"gcloud iam service-accounts add-iam-policy-binding "+testGSA+" --role="+tokenCreator)
	}
}

func TestSourceCredentialThatGoogleRefusesIsMisconfigured(t *testing.T) {
	for _, of := range []struct {
		file credentialFile
		void func(*offlineGoogle)
	}{
		{gcloudLogin, func(g *offlineGoogle) {
			g.SetFault(fakegoogle.MethodOAuth2Token, fakegoogle.Fault{Status: http.StatusBadRequest})
		}},
		{keyFile, func(g *offlineGoogle) { g.RemoveServiceAccount(keyed) }},
	} {
		t.Run(string(of.file.kind), func(t *testing.T) {
			g := startGoogle(t)
			e := newEngine(t, g.impersonation(of.file.source(t, g), AllowAll{}))
			of.void(g)
			_, err := e.AccessToken(t.Context(), linked, DefaultScopes())
			wantError(t, err, Misconfigured, "source credential of the metadata server", "400 Bad Request: invalid_")
		})
	}
}

func TestSourceCredentialThatCannotBeRefreshedNowIsUnavailable(t *testing.T) {
	g := startGoogle(t)
	source := gcloudLogin.source(t, g)
	for name, of := range map[string]struct {
		tokens oauth2.TokenSource
		fault  fakegoogle.Fault
		text   string
		after  time.Duration
	}{
		"busy":        {source, fakegoogle.Fault{Status: http.StatusTooManyRequests, RetryAfter: 3 * time.Second}, "429 Too Many Requests", 3 * time.Second},
		"broken":      {source, fakegoogle.Fault{Status: http.StatusBadGateway}, "502 Bad Gateway", 0},
		"unreachable": {tokenSource(func() (*oauth2.Token, error) { return nil, errors.New("no route") }), fakegoogle.Fault{}, "could not be reached", 0},
	} {
		t.Run(name, func(t *testing.T) {
			g.SetFault(fakegoogle.MethodOAuth2Token, of.fault)
			ctx, cancel := context.WithTimeout(t.Context(), minPause/2) // no time for another attempt
			defer cancel()
			_, err := newEngine(t, g.impersonation(of.tokens, AllowAll{})).AccessToken(ctx, linked, DefaultScopes())
			if got := wantError(t, err, Unavailable, of.text).RetryAfter; got < of.after || got > of.after+minPause {
				t.Errorf("ask again after %s, want %s", got, of.after)
			}
		})
	}
}

// oauth2's sources know no deadline: one goroutine waits for them, not one for
// each request.
func TestHangingSourceCredentialHoldsOneGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		calls := 0
		s := &sourceCredential{metrics: newMetrics(prometheus.NewRegistry()), tokens: tokenSource(func() (*oauth2.Token, error) {
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
