package fakegoogle

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

func TestExchange_ReturnsFederatedToken(t *testing.T) {
	g := newFixture(t, Options{})
	form := exchangeForm(podToken(startTime, nil))
	got := g.form("/v1/token", form)
	if got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	body := got.decode(t)
	token, _ := body["access_token"].(string)
	if !strings.HasPrefix(token, "ya29.d.fake-") || len(token) < 1000 {
		t.Errorf("access_token of %d bytes, begins %.12q", len(token), token)
	}
	delete(body, "access_token")
	want := map[string]any{
		"issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
		"token_type":        "Bearer",
		"expires_in":        3600.0,
	}
	if diff := cmp.Diff(want, body); diff != "" {
		t.Error(diff)
	}
	granted, ok := g.Inspect(token)
	if diff := cmp.Diff(Grant{
		Principal: testCaller,
		KSA:       "shop/cart",
		Pod:       "shop/cart-7d4",
		PodUID:    "5b2d",
		Scopes:    []string{scopeCloudPlatform},
		Expiry:    startTime.Add(time.Hour),
	}, granted); diff != "" || !ok {
		t.Error(ok, diff)
	}
}

func TestExchange_AcceptsValidRequests(t *testing.T) {
	for name, test := range map[string]struct {
		provider Provider
		form     map[string]string
	}{
		"id_token as the type":          {form: map[string]string{"subject_token_type": "urn:ietf:params:oauth:token-type:id_token"}},
		"ES256":                         {form: map[string]string{"subject_token": sign(jose.ES256, issuerEC(), "ec", podClaims(startTime, nil))}},
		"default audience, bare":        {form: map[string]string{"subject_token": podToken(startTime, map[string]any{"aud": testProvider})}},
		"one of several audiences":      {form: map[string]string{"subject_token": podToken(startTime, map[string]any{"aud": []string{"x", testProvider}})}},
		"an allowed audience":           {provider: Provider{AllowedAudiences: []string{"sts"}}, form: map[string]string{"subject_token": podToken(startTime, map[string]any{"aud": "sts"})}},
		"several scopes":                {form: map[string]string{"scope": scopeIAM + " openid"}},
		"options":                       {form: map[string]string{"options": `{"userProject":"billing"}`}},
		"options, encoded twice":        {form: map[string]string{"options": `%7B%22userProject%22%3A%22billing%22%7D`}},
		"clock ahead by less than 60 s": {form: map[string]string{"subject_token": podToken(startTime.Add(59*time.Second), nil)}},
		"no nbf":                        {form: map[string]string{"subject_token": podToken(startTime, map[string]any{"nbf": nil})}},
		"23 hours old":                  {form: map[string]string{"subject_token": podToken(startTime, map[string]any{"iat": startTime.Add(-23 * time.Hour).Unix()})}},
		"a subject of 127 bytes":        {form: map[string]string{"subject_token": podToken(startTime, map[string]any{"sub": strings.Repeat("s", 127)})}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newFixture(t, Options{})
			g.addProvider(test.provider)
			form := exchangeForm(podToken(startTime, nil))
			maps.Copy(form, test.form)
			if got := g.form("/v1/token", form); got.status != http.StatusOK {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
}

// noneToken returns a JWT with the algorithm none and no signature.
func noneToken(claims map[string]any) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none","kid":"rsa"}`)) + "." + encode(must(json.Marshal(claims))) + "."
}

func TestExchange_RefusesInvalidRequests(t *testing.T) {
	tampered := podToken(startTime, nil)
	parts := strings.Split(tampered, ".")
	parts[1] = strings.Split(podToken(startTime, map[string]any{"sub": "system:serviceaccount:shop:admin"}), ".")[1]
	tampered = strings.Join(parts, ".")

	token := func(changes map[string]any) map[string]string {
		return map[string]string{"subject_token": podToken(startTime, changes)}
	}
	const stale = "ID Token issued at 1767323045 is stale to sign-in."
	for name, test := range map[string]struct {
		provider Provider
		form     map[string]string // the difference from a valid request
		code     string
		text     string
	}{
		"another grant type":        {form: map[string]string{"grant_type": "client_credentials"}, code: "unsupported_grant_type", text: "grant_type"},
		"no grant type":             {form: map[string]string{"grant_type": ""}, code: "unsupported_grant_type", text: "grant_type"},
		"another requested type":    {form: map[string]string{"requested_token_type": "urn:ietf:params:oauth:token-type:jwt"}, code: "invalid_request", text: "Invalid value of requested_token_type in request."},
		"no requested type":         {form: map[string]string{"requested_token_type": ""}, code: "invalid_request", text: "requested_token_type"},
		"another subject type":      {form: map[string]string{"subject_token_type": "urn:ietf:params:oauth:token-type:access_token"}, code: "invalid_request", text: "subject_token_type"},
		"no subject token":          {form: map[string]string{"subject_token": ""}, code: "invalid_request", text: "subject_token"},
		"an actor":                  {form: map[string]string{"actor_token": "x"}, code: "invalid_request", text: "Actor"},
		"no scope":                  {form: map[string]string{"scope": ""}, code: "invalid_request", text: "Scope(s) must be provided."},
		"unknown scope":             {form: map[string]string{"scope": "cloud-platform"}, code: "invalid_scope"},
		"scopes joined by commas":   {form: map[string]string{"scope": scopeCloudPlatform + "," + scopeIAM}, code: "invalid_scope"},
		"options are no JSON":       {form: map[string]string{"options": "{"}, code: "invalid_request", text: "options"},
		"audience with https":       {form: map[string]string{"audience": "https:" + testProvider}, code: "invalid_request", text: `Invalid value for "audience"`},
		"audience is the pool":      {form: map[string]string{"audience": testPool}, code: "invalid_request", text: `Invalid value for "audience"`},
		"audience with a GKE name":  {form: map[string]string{"audience": "identitynamespace:demo.svc.id.goog:x"}, code: "invalid_request", text: `Invalid value for "audience"`},
		"project id for the number": {form: map[string]string{"audience": strings.Replace(testProvider, "123456", "demo-project", 1)}, code: "invalid_request", text: `Invalid value for "audience"`},
		"unknown provider":          {form: map[string]string{"audience": testPool + "/providers/other"}, code: "invalid_target", text: "might either be because the pool or provider is disabled"},
		"no JWT":                    {form: map[string]string{"subject_token": "opaque"}, code: "invalid_grant", text: "Unable to parse"},
		"alg none":                  {form: map[string]string{"subject_token": noneToken(podClaims(startTime, nil))}, code: "invalid_grant", text: "Unable to parse"},
		"alg HS256 with the public key": {form: map[string]string{"subject_token": sign(jose.HS256, issuerRSA().N.Bytes(), "rsa", podClaims(startTime, nil))},
			code: "invalid_grant", text: "Unable to parse"},
		"alg RS512":       {form: map[string]string{"subject_token": sign(jose.RS512, issuerRSA(), "rsa", podClaims(startTime, nil))}, code: "invalid_grant", text: "Unable to parse"},
		"another key":     {form: map[string]string{"subject_token": sign(jose.RS256, otherRSA(), "rsa", podClaims(startTime, nil))}, code: "invalid_grant", text: "Unable to verify the ID Token signature."},
		"tampered claims": {form: map[string]string{"subject_token": tampered}, code: "invalid_grant", text: "Unable to verify the ID Token signature."},
		"unknown key id":  {form: map[string]string{"subject_token": sign(jose.RS256, issuerRSA(), "old", podClaims(startTime, nil))}, code: "invalid_grant", text: "Error connecting to the given credential's issuer."},
		"no key id":       {form: map[string]string{"subject_token": sign(jose.RS256, issuerRSA(), "", podClaims(startTime, nil))}, code: "invalid_grant", text: "Error connecting"},
		"id of another kind of key": {form: map[string]string{"subject_token": sign(jose.ES256, issuerEC(), "rsa", podClaims(startTime, nil))},
			code: "invalid_grant", text: "Error connecting"},
		"another issuer":      {form: token(map[string]any{"iss": "https://elsewhere"}), code: "invalid_grant", text: "The issuer in ID Token https://elsewhere does not match"},
		"issuer with a slash": {form: token(map[string]any{"iss": testIssuer + "/"}), code: "invalid_grant", text: "issuer"},
		"no issuer":           {form: token(map[string]any{"iss": nil}), code: "invalid_grant", text: "The issuer in ID Token null"},
		"another audience":    {form: token(map[string]any{"aud": []string{"a", "b"}}), code: "invalid_grant", text: "The audience in ID Token [a, b] does not match the expected audience."},
		"no audience":         {form: token(map[string]any{"aud": nil}), code: "invalid_grant", text: "The audience in ID Token [] "},
		"default audience with explicit ones": {provider: Provider{AllowedAudiences: []string{"sts"}},
			code: "invalid_grant", text: "audience"},
		"expired":                {form: token(map[string]any{"exp": startTime.Unix()}), code: "invalid_grant", text: stale},
		"no expiry":              {form: token(map[string]any{"exp": nil}), code: "invalid_grant", text: stale},
		"no time of issue":       {form: token(map[string]any{"iat": nil}), code: "invalid_grant", text: "ID Token issued at null is stale"},
		"issued in the future":   {form: token(map[string]any{"iat": startTime.Add(61 * time.Second).Unix()}), code: "invalid_grant", text: "stale"},
		"issued 25 hours ago":    {form: token(map[string]any{"iat": startTime.Add(-25 * time.Hour).Unix()}), code: "invalid_grant", text: "stale"},
		"not valid yet":          {form: token(map[string]any{"nbf": startTime.Add(61 * time.Second).Unix()}), code: "invalid_grant", text: "stale"},
		"no subject":             {form: token(map[string]any{"sub": nil}), code: "unauthorized_client", text: "google.subject"},
		"a subject of 128 bytes": {form: token(map[string]any{"sub": strings.Repeat("s", 128)}), code: "invalid_request", text: "127 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newFixture(t, Options{})
			g.addProvider(test.provider)
			form := exchangeForm(podToken(startTime, nil))
			maps.Copy(form, test.form)
			checkOAuthError(t, g.form("/v1/token", form), http.StatusBadRequest, test.code, test.text)
		})
	}
}

func TestExchange_RefusesMalformedBodies(t *testing.T) {
	g := newFixture(t, Options{})
	form := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	checkOAuthError(t, g.do("POST", "/v1/token", map[string]string{"Content-Type": "text/plain"}, "grant_type=x"), 400, "invalid_request", "Content-Type")
	checkOAuthError(t, g.do("POST", "/v1/token", form, "scope=a&scope=b"), 400, "invalid_request", "more than once: scope")
	checkOAuthError(t, g.do("POST", "/v1/token", form, "%zz"), 400, "invalid_request", "Malformed")
	checkAPIError(t, g.do("POST", "/v1/token", form, strings.Repeat("a", maxBody+1)), 400, "INVALID_ARGUMENT", "exceeds the limit")
	if got := g.do("GET", "/v1/token", nil, ""); got.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", got.status)
	}
}

func TestExchange_AcceptsJSON(t *testing.T) {
	g := newFixture(t, Options{})
	request := map[string]string{
		"grantType":          "urn:ietf:params:oauth:grant-type:token-exchange",
		"requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
		"subjectTokenType":   "urn:ietf:params:oauth:token-type:jwt",
		"subjectToken":       podToken(startTime, nil),
		"audience":           testProvider,
		"scope":              scopeCloudPlatform,
	}
	post := func() response {
		return g.do("POST", "/v1/token", map[string]string{"Content-Type": "application/json; charset=utf-8"}, string(must(json.Marshal(request))))
	}
	if got := post(); got.status != http.StatusOK || got.field(t, "access_token") == "" {
		t.Errorf("%d %s", got.status, got.body)
	}
	request["subjectToken"] = podToken(startTime, map[string]any{"aud": "x"})
	checkOAuthError(t, post(), 400, "invalid_grant", "audience")
	request["subject_token"] = "x"
	checkAPIError(t, post(), 400, "INVALID_ARGUMENT", `Unknown name "subject_token"`)
}

func TestExchange_TokenEndsWithSubjectToken(t *testing.T) {
	for name, test := range map[string]struct {
		tokenLifetime, subjectLifetime time.Duration
		want                           float64
	}{
		"Google's hour":                   {0, 2 * time.Hour, 3600},
		"the subject token's":             {0, 10 * time.Minute, 600},
		"the server's":                    {time.Minute, 10 * time.Minute, 60},
		"Google's hour, not the server's": {24 * time.Hour, 2 * time.Hour, 3600},
	} {
		t.Run(name, func(t *testing.T) {
			g := newFixture(t, Options{TokenLifetime: test.tokenLifetime})
			got := g.form("/v1/token", exchangeForm(podToken(startTime, map[string]any{"exp": startTime.Add(test.subjectLifetime).Unix()})))
			if lifetime := got.decode(t)["expires_in"]; lifetime != test.want {
				t.Errorf("expires_in %v, want %v", lifetime, test.want)
			}
		})
	}
}

func TestExchange_QuotaProjectFromOptions(t *testing.T) {
	g := newFixture(t, Options{})
	form := exchangeForm(podToken(startTime, nil))
	form["options"] = `{"userProject":"from-options"}`
	token := g.form("/v1/token", form).field(t, "access_token")
	if granted, _ := g.Inspect(token); granted.QuotaProject != "from-options" {
		t.Errorf("quota project %q", granted.QuotaProject)
	}
}

func TestAddProvider_ChecksFields(t *testing.T) {
	private := must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: issuerRSA(), KeyID: "rsa"}}}))
	symmetric := must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: []byte("secret"), KeyID: "hmac"}}}))
	p384 := must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{
		Key: &must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)).PublicKey, KeyID: "p384",
	}}}))
	valid := Provider{Name: testProvider, Issuer: testIssuer, JWKS: testJWKS()}
	if err := New(Options{}).AddProvider(valid); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*Provider)
		text   string
	}{
		"project id":          {func(p *Provider) { p.Name = strings.Replace(p.Name, "123456", "demo", 1) }, "number, not its ID"},
		"no issuer":           {func(p *Provider) { p.Issuer = "" }, "https://"},
		"http issuer":         {func(p *Provider) { p.Issuer = "http://localhost" }, "https://"},
		"issuer without host": {func(p *Provider) { p.Issuer = "https:///x" }, "https://"},
		"EC key on P-384":     {func(p *Provider) { p.JWKS = p384 }, "P-256"},
		"no keys":             {func(p *Provider) { p.JWKS = []byte(`{"keys":[]}`) }, "holds no keys"},
		"no JSON":             {func(p *Provider) { p.JWKS = []byte("{") }, "JWKS of provider"},
		"private key":         {func(p *Provider) { p.JWKS = private }, "private"},
		"symmetric key":       {func(p *Provider) { p.JWKS = symmetric }, "keys[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			p := valid
			test.change(&p)
			if err := New(Options{}).AddProvider(p); err == nil || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error %v, want one with %q", err, test.text)
			}
		})
	}
}

func TestAddProvider_ReplacesSameName(t *testing.T) {
	g := newFixture(t, Options{})
	g.addProvider(Provider{AllowedAudiences: []string{"new"}})
	checkOAuthError(t, g.form("/v1/token", exchangeForm(podToken(startTime, nil))), 400, "invalid_grant", "audience")
}

func TestProvider_KeyIsUsedWithItsAlgorithmOnly(t *testing.T) {
	g := newFixture(t, Options{})
	for alg, want := range map[string]int{"": 200, "RS256": 200, "PS256": 400} {
		keys := must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &issuerRSA().PublicKey, KeyID: "rsa", Algorithm: alg}}}))
		if err := g.AddProvider(Provider{Name: testProvider, Issuer: testIssuer, JWKS: keys}); err != nil {
			t.Fatal(err)
		}
		if got := g.form("/v1/token", exchangeForm(podToken(startTime, nil))); got.status != want {
			t.Errorf("alg %q in the key set: %d %s, want %d", alg, got.status, got.body, want)
		}
	}
}

func TestProvider_RequiresKeyID(t *testing.T) {
	g := newFixture(t, Options{})
	nameless := must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &issuerRSA().PublicKey}}}))
	if err := g.AddProvider(Provider{Name: testProvider, Issuer: testIssuer, JWKS: nameless}); err != nil {
		t.Fatal(err)
	}
	token := sign(jose.RS256, issuerRSA(), "", podClaims(startTime, nil))
	checkOAuthError(t, g.form("/v1/token", exchangeForm(token)), 400, "invalid_grant", "Error connecting")
}
