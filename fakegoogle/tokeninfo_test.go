package fakegoogle

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTokenInfo_DescribesAccessToken(t *testing.T) {
	g := newFixture(t, Options{})
	token := g.accessToken(testGSA, scopeCloudPlatform, scopeUserInfoEmail)
	id := g.accounts[testGSA].uniqueID
	g.clock.advance(time.Minute)
	want := object{
		"azp": id, "aud": id, "sub": id,
		"scope":          scopeCloudPlatform + " " + scopeUserInfoEmail,
		"exp":            unix(startTime.Add(time.Hour)),
		"expires_in":     "3540",
		"email":          testGSA,
		"email_verified": "true",
		"access_type":    "online",
	}
	form := map[string]string{"access_token": token}
	header := map[string]string{"Authorization": "Bearer " + token}
	for name, got := range map[string]response{
		"GET":          g.do("GET", "/tokeninfo?access_token="+token, nil, ""),
		"GET v3":       g.do("GET", "/oauth2/v3/tokeninfo?access_token="+token, nil, ""),
		"POST":         g.form("/tokeninfo", form),
		"POST v3":      g.form("/oauth2/v3/tokeninfo", form),
		"POST, query":  g.do("POST", "/tokeninfo?access_token="+token, nil, ""),
		"with bearer":  g.do("GET", "/tokeninfo", header, ""),
		"POST, bearer": g.do("POST", "/oauth2/v3/tokeninfo", header, ""),
	} {
		if diff := cmp.Diff(want, got.decode(t)); diff != "" {
			t.Errorf("%s: %d %s", name, got.status, diff)
		}
	}
}

func TestTokenInfo_NamesPrincipalOnlyWithScope(t *testing.T) {
	g := newFixture(t, Options{})
	got := g.do("GET", "/tokeninfo?access_token="+g.accessToken(testGSA, scopeCloudPlatform), nil, "").decode(t)
	for _, name := range []string{"email", "email_verified", "sub"} {
		if v, ok := got[name]; ok {
			t.Errorf("%s: %v", name, v)
		}
	}
	if got["azp"] == "" {
		t.Errorf("%v", got)
	}
}

func TestTokenInfo_DescribesIDToken(t *testing.T) {
	g := newFixture(t, Options{})
	g.Bind(testGSA, wiUser, testCaller)
	token := g.call(g.federate(nil), testGSA, "generateIdToken", object{"audience": "aud", "includeEmail": true}).field(t, "token")
	id := g.accounts[testGSA].uniqueID
	got := g.do("GET", "/tokeninfo?id_token="+url.QueryEscape(token), nil, "").decode(t)
	delete(got, "kid")
	want := object{
		"iss": "https://accounts.google.com", "aud": "aud", "azp": id, "sub": id,
		"iat": unix(startTime), "exp": unix(startTime.Add(time.Hour)), "alg": "RS256", "typ": "JWT",
		"email": testGSA, "email_verified": "true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	g.clock.advance(time.Hour)
	checkOAuthError(t, g.do("GET", "/tokeninfo?id_token="+url.QueryEscape(token), nil, ""), 400, "invalid_token", "Invalid Value")
}

func TestTokenInfo_RefusesOtherTokens(t *testing.T) {
	g := newFixture(t, Options{})
	expired := g.accessToken(testGSA, scopeCloudPlatform)
	g.clock.advance(time.Hour)
	for name, query := range map[string]string{
		"nothing":                       "",
		"an unknown token":              "access_token=ya29.fake-x",
		"an expired token":              "access_token=" + expired,
		"a federated token":             "access_token=" + g.federate(nil),
		"an ID token of another issuer": "id_token=" + podToken(g.Now(), nil),
		"no valid ID token":             "id_token=x",
	} {
		t.Run(name, func(t *testing.T) {
			checkOAuthError(t, g.do("GET", "/tokeninfo?"+query, nil, ""), 400, "invalid_token", "Invalid Value")
		})
	}
}
