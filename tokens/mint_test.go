package tokens

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"gke-metadata-emulator/identity"
)

func TestAccessTokenHasTheScopesAskedFor(t *testing.T) {
	g := startGoogle(t)
	g.Bind(testGSA, workloadIdentityUser, testCaller)
	e := newEngine(t, g.federation())
	for _, scopes := range []Scopes{DefaultScopes(), NewScopes("https://www.googleapis.com/auth/devstorage.read_only")} {
		token, err := e.AccessToken(t.Context(), linked, scopes)
		check(t, err)
		if got := g.wantGrant(t, token, "serviceAccount:"+testGSA, testCaller).Scopes; !slices.Equal(got, scopes) {
			t.Errorf("scopes %q, want %q", got, scopes)
		}
		if token.Type != "Bearer" {
			t.Errorf("type %s", token.Type)
		}
	}
}

func TestIDTokenHasTheAudienceAndTheEmail(t *testing.T) {
	g := startGoogle(t)
	g.Bind(testGSA, workloadIdentityUser, testCaller)
	const audience = "https://example.com/ünusual?a=b&c=\"d\""
	token, err := newEngine(t, g.federation()).IDToken(t.Context(), linked, IDTokenRequest{Audience: audience, Format: "full"})
	check(t, err)
	var claims struct {
		jwt.Claims
		Email    string `json:"email"`
		Verified bool   `json:"email_verified"`
	}
	check(t, must(jwt.ParseSigned(token.Value(), []jose.SignatureAlgorithm{jose.RS256})).UnsafeClaimsWithoutVerification(&claims))
	if !claims.Audience.Contains(audience) || claims.Email != testGSA || !claims.Verified {
		t.Errorf("audience %q, e-mail %s, verified %t", claims.Audience, claims.Email, claims.Verified)
	}
	if !token.Expiry.Equal(claims.Expiry.Time()) || token.Type != "JWT" {
		t.Errorf("%s that expires at %s, want a JWT until %s", token.Type, token.Expiry, claims.Expiry.Time())
	}
}

func TestQuotaIsTheAnnotatedProjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		billed := with(linked, func(w *identity.Workload) { w.QuotaProject = "billing" })
		e := newEngine(t, g.federation())
		mint := map[string]func() (Token, error){
			"access token": func() (Token, error) { return e.AccessToken(t.Context(), billed, DefaultScopes()) },
			"ID token":     func() (Token, error) { return e.IDToken(t.Context(), billed, IDTokenRequest{Audience: "a"}) },
		}
		for what, mint := range mint {
			_, err := mint()
			wantError(t, err, Denied, "to use project billing. Grant the caller the roles/serviceusage.serviceUsageConsumer role",
				"named by the annotation iam.gke.io/credential-quota-project of service account shop/cart.")
			if strings.Contains(err.Error(), "add-iam-policy-binding") {
				t.Errorf("%s: the binding of the GSA is not what is missing: %v", what, err)
			}
		}
		g.Bind("projects/billing", "roles/serviceusage.serviceUsageConsumer", testCaller)
		time.Sleep(refusalLife)
		for _, mint := range mint {
			_, err := mint()
			check(t, err)
		}
		token, err := mint["access token"]()
		check(t, err)
		if grant, _ := g.Inspect(token.Value()); grant.QuotaProject != "billing" {
			t.Errorf("billed to %q", grant.QuotaProject)
		}
	})
}

func TestMissingBindingIsDeniedWithTheCommandThatAddsIt(t *testing.T) {
	e := newEngine(t, startGoogle(t).federation())
	for of, permission := range map[int]string{0: "iam.serviceAccounts.getAccessToken", 1: "iam.serviceAccounts.getOpenIdToken"} {
		_, err := endpoints()[of].ask(t.Context(), e, linked)
		wantError(t, err, Denied, "IAM returned 403 Forbidden: Permission '"+permission+"' denied on resource (or it may not exist).",
			"gcloud iam service-accounts add-iam-policy-binding "+testGSA+" --role=roles/iam.workloadIdentityUser --member=\""+testCaller+"\"")
	}
}

func TestMissingServiceAccountIsNotFound(t *testing.T) {
	g := startGoogle(t)
	g.RemoveServiceAccount(testGSA)
	e := newEngine(t, g.federation())
	for _, of := range endpoints() {
		_, err := of.ask(t.Context(), e, linked)
		wantError(t, err, NotFound, "IAM returned 404 Not Found", testGSA)
	}
}

// Whatever IAM answers is an error of ours or a token that will last.
func TestAnswersOfIAMThatMakeNoSense(t *testing.T) {
	for _, of := range []struct {
		name, body string
		endpoint   endpoint
		text       string
	}{
		{"no JSON", "<html>", endpoints()[0], "generate access token"},
		{"no expiry", `{"accessToken": "secret"}`, endpoints()[0], "no expiry"},
		{"no JWT", `{"token": "secret"}`, endpoints()[1], "no JWT"},
		{"JWT of something else", `{"token": "a.!.c"}`, endpoints()[1], "no JWT"},
		{"JWT of no claims", `{"token": "a.bm9uZQ.c"}`, endpoints()[1], "no JWT"},
		{"JWT without expiry", `{"token": "a.e30.c"}`, endpoints()[1], "no JWT"},
	} {
		t.Run(of.name, func(t *testing.T) {
			o := (&offlineGoogle{Running: nowhere}).impersonation(operator, AllowAll{})
			o.HTTPClient = &http.Client{Transport: transport(func(*http.Request) (int, string) { return http.StatusOK, of.body })}
			ctx, cancel := context.WithTimeout(t.Context(), minPause/2) // no time for another attempt
			defer cancel()
			_, err := of.endpoint.ask(ctx, newEngine(t, o), linked)
			wantError(t, err, Unavailable, of.text)
		})
	}
}

func TestClaimsOfAJWTAreRead(t *testing.T) {
	l := must(NewLocalIssuer(testIssuer, time.Now))
	token := must(l.SubjectToken(t.Context(), linked, "a", time.Hour))
	got, err := claimsOf(token.Value())
	if err != nil || got.Expiry != token.Expiry.Unix() || got.life() != time.Hour || got.Subject != "system:serviceaccount:shop:cart" {
		t.Errorf("%+v, %v, want one until %s", got, err, token.Expiry)
	}
}
