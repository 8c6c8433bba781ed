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

func TestMint_AccessTokenHasRequestedScopes(t *testing.T) {
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

func TestMint_IDTokenHasAudienceAndEmail(t *testing.T) {
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

func TestMint_QuotaProjectIsTheAnnotated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := googleInBubble(t, 0)
		withQuota := with(linked, func(w *identity.Workload) { w.QuotaProject = "billing" })
		e := newEngine(t, g.federation())
		mint := map[string]func() (Token, error){
			"access token": func() (Token, error) { return e.AccessToken(t.Context(), withQuota, DefaultScopes()) },
			"ID token":     func() (Token, error) { return e.IDToken(t.Context(), withQuota, IDTokenRequest{Audience: "a"}) },
		}
		for kind, mint := range mint {
			_, err := mint()
			wantError(t, err, Denied, "to use project billing. Grant the caller the roles/serviceusage.serviceUsageConsumer role",
				"named by the annotation iam.gke.io/credential-quota-project of service account shop/cart.",
				"\ngcloud projects add-iam-policy-binding billing --role=roles/serviceusage.serviceUsageConsumer --member=\""+testCaller+"\"\n", "#quota-project")
			if strings.Contains(err.Error(), "gcloud iam service-accounts") {
				t.Errorf("%s: the GSA's binding is not missing: %v", kind, err)
			}
		}
		g.Bind("projects/billing", "roles/serviceusage.serviceUsageConsumer", testCaller)
		time.Sleep(refusalTTL)
		for _, mint := range mint {
			_, err := mint()
			check(t, err)
		}
		token, err := mint["access token"]()
		check(t, err)
		if grant, _ := g.Inspect(token.Value()); grant.QuotaProject != "billing" {
			t.Errorf("quota project %q", grant.QuotaProject)
		}
	})
}

func TestMint_MissingBindingNamesCommand(t *testing.T) {
	e := newEngine(t, startGoogle(t).federation())
	for kind, permission := range map[int]string{0: "iam.serviceAccounts.getAccessToken", 1: "iam.serviceAccounts.getOpenIdToken"} {
		_, err := tokenKinds()[kind].request(t.Context(), e, linked)
		wantError(t, err, Denied, "IAM returned 403 Forbidden: Permission '"+permission+"' denied on resource (or it may not exist).",
			"gcloud iam service-accounts add-iam-policy-binding "+testGSA+" --role=roles/iam.workloadIdentityUser --member=\""+testCaller+"\" --project=shop-project\n", gkeSentence, "#missing-binding")
	}
}

func TestMint_MissingGSAIsNotFound(t *testing.T) {
	g := startGoogle(t)
	g.RemoveServiceAccount(testGSA)
	e := newEngine(t, g.federation())
	for _, kind := range tokenKinds() {
		_, err := kind.request(t.Context(), e, linked)
		wantError(t, err, NotFound, "IAM returned 404 Not Found", testGSA)
	}
}

// IAM's response becomes an error or a token with an expiry, whatever it is.
func TestMint_MalformedResponsesAreUnavailable(t *testing.T) {
	for _, test := range []struct {
		name, body string
		kind       tokenKind
		text       string
	}{
		{"no JSON", "<html>", tokenKinds()[0], "generate access token"},
		{"no expiry", `{"accessToken": "secret"}`, tokenKinds()[0], "no expiry"},
		{"no JWT", `{"token": "secret"}`, tokenKinds()[1], "not a JWT"},
		{"JWT without a header", `{"token": "a.e30.c"}`, tokenKinds()[1], "not a JWT"},
		{"payload that is not base64", `{"token": "` + jwtHeader + `.!.c"}`, tokenKinds()[1], "not a JWT"},
		{"payload that is not JSON", `{"token": "` + jwtHeader + `.bm9uZQ.c"}`, tokenKinds()[1], "not a JWT"},
		{"JWT without an expiry", `{"token": "` + jwtHeader + `.e30.YWJj"}`, tokenKinds()[1], "not a JWT with an expiry"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := (&offlineGoogle{Running: offlineServer}).impersonation(operator, AllowAll{})
				o.HTTPClient = &http.Client{Transport: transport(func(*http.Request) (int, string) { return http.StatusOK, test.body })}
				ctx, cancel := context.WithTimeout(t.Context(), minRetryDelay/2) // no time for another attempt
				defer cancel()
				_, err := test.kind.request(ctx, newEngine(t, o), linked)
				wantError(t, err, Unavailable, test.text)
			})
		})
	}
}

const jwtHeader = "eyJhbGciOiJSUzI1NiJ9" // {"alg":"RS256"}

func TestJWT_ClaimsAreRead(t *testing.T) {
	l := must(NewLocalIssuer(testIssuer, time.Now))
	token := must(l.SubjectToken(t.Context(), linked, "a", time.Hour))
	got, keyID, err := parseJWT(token.Value())
	if err != nil || got.Expiry.Time().Unix() != token.Expiry.Unix() || got.Expiry.Time().Sub(got.IssuedAt.Time()) != time.Hour || got.Subject != "system:serviceaccount:shop:cart" || keyID != "local" {
		t.Errorf("%+v, key %s, %v, want a token until %s", got, keyID, err, token.Expiry)
	}
}
