package fakegoogle

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

const testTokenURI = "https://fake.example/token"

// keyFile is the file of a downloaded key.
type keyFile struct {
	Type         string `json:"type"`
	PrivateKeyID string `json:"private_key_id"`
	PrivateKey   string `json:"private_key"`
	ClientEmail  string `json:"client_email"`
	ProjectID    string `json:"project_id"`
	TokenURI     string `json:"token_uri"`
}

func (f *keyFile) key() *rsa.PrivateKey {
	block, _ := pem.Decode([]byte(f.PrivateKey))
	key, _ := must(x509.ParsePKCS8PrivateKey(block.Bytes)).(*rsa.PrivateKey)
	return key
}

func (g *fixture) key(email, tokenURI string) *keyFile {
	g.t.Helper()
	data, err := g.ServiceAccountKey(email, tokenURI)
	if err != nil {
		g.t.Fatal(err)
	}
	var file keyFile
	if err := json.Unmarshal(data, &file); err != nil {
		g.t.Fatal(err)
	}
	return &file
}

// assertionClaims are the claims of a valid assertion, with changes: see changed.
func (f *keyFile) assertionClaims(changes object) object {
	return changed(object{
		"iss":   f.ClientEmail,
		"aud":   f.TokenURI,
		"scope": scopeCloudPlatform,
		"iat":   startTime.Unix(),
		"exp":   startTime.Add(time.Hour).Unix(),
	}, changes)
}

// authorizedUser logs a user in and returns the credentials file.
func (g *fixture) authorizedUser(email, tokenURI string) map[string]string {
	g.t.Helper()
	var file map[string]string
	if err := json.Unmarshal(g.AuthorizedUser(email, tokenURI), &file); err != nil {
		g.t.Fatal(err)
	}
	return file
}

// refreshForm redeems the refresh token of a credentials file.
func refreshForm(file map[string]string) map[string]string {
	return map[string]string{
		"grant_type":    "refresh_token",
		"client_id":     file["client_id"],
		"client_secret": file["client_secret"],
		"refresh_token": file["refresh_token"],
	}
}

func (g *fixture) redeem(assertion string) response {
	return g.form("/token", map[string]string{"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion})
}

func TestServiceAccountKey_GetsAccessToken(t *testing.T) {
	g := newFixture(t, Options{})
	key := g.key(testGSA, testTokenURI)
	if key.Type != "service_account" || key.ClientEmail != testGSA || key.ProjectID != "demo-project" || key.TokenURI != testTokenURI {
		t.Errorf("%+v", key)
	}
	got := g.redeem(sign(jose.RS256, key.key(), key.PrivateKeyID, key.assertionClaims(object{"sub": testGSA})))
	body := got.decode(t)
	token, _ := body["access_token"].(string)
	delete(body, "access_token")
	if diff := cmp.Diff(object{"token_type": "Bearer", "expires_in": 3600.0}, body); diff != "" {
		t.Error(got.status, diff)
	}
	granted, _ := g.Inspect(token)
	if diff := cmp.Diff(Grant{Principal: "serviceAccount:" + testGSA, Scopes: cloudPlatform, Expiry: startTime.Add(time.Hour)}, granted); diff != "" {
		t.Error(diff)
	}
	if key := g.key(testGSA, ""); key.TokenURI != "https://oauth2.googleapis.com/token" {
		t.Errorf("default token_uri %q", key.TokenURI)
	}
}

func TestServiceAccountKey_GetsIDToken(t *testing.T) {
	g := newFixture(t, Options{})
	key := g.key(testGSA, testTokenURI)
	got := g.redeem(sign(jose.RS256, key.key(), key.PrivateKeyID, key.assertionClaims(object{"scope": nil, "target_audience": "https://shop.example"})))
	info := g.do("GET", "/tokeninfo?id_token="+got.field(t, "id_token"), nil, "")
	if info.field(t, "email") != testGSA || info.field(t, "aud") != "https://shop.example" {
		t.Errorf("%s: %s", got.body, info.body)
	}
}

func TestAssertion_IsChecked(t *testing.T) {
	g := newFixture(t, Options{})
	key := g.key(testGSA, testTokenURI)
	other := g.key("other@demo-project.iam.gserviceaccount.com", testTokenURI)
	signed := func(changes object) string {
		return sign(jose.RS256, key.key(), key.PrivateKeyID, key.assertionClaims(changes))
	}
	for name, test := range map[string]struct {
		assertion string
		status    int
		code      string
		text      string
	}{
		"none":                  {"", 400, "invalid_request", "assertion"},
		"no JWT":                {"x", 400, "invalid_grant", "Invalid JWT"},
		"alg none":              {noneToken(key.assertionClaims(nil)), 400, "invalid_grant", "Invalid JWT"},
		"alg RS512":             {sign(jose.RS512, key.key(), key.PrivateKeyID, key.assertionClaims(nil)), 400, "invalid_grant", "RS256"},
		"another key":           {sign(jose.RS256, otherRSA(), key.PrivateKeyID, key.assertionClaims(nil)), 400, "invalid_grant", "Invalid JWT Signature."},
		"another account's key": {sign(jose.RS256, other.key(), other.PrivateKeyID, key.assertionClaims(nil)), 400, "invalid_grant", "Invalid JWT Signature."},
		"unknown key id":        {sign(jose.RS256, key.key(), "x", key.assertionClaims(nil)), 400, "invalid_grant", "Invalid JWT Signature."},
		"unknown account":       {signed(object{"iss": "x@demo-project.iam.gserviceaccount.com"}), 400, "invalid_grant", "account not found"},
		"another audience":      {signed(object{"aud": "https://oauth2.googleapis.com/token"}), 400, "invalid_grant", "The right audience is " + testTokenURI},
		"two audiences":         {signed(object{"aud": []string{testTokenURI, "x"}}), 400, "invalid_grant", "audience"},
		"no audience":           {signed(object{"aud": nil}), 400, "invalid_grant", "audience"},
		"expired":               {signed(object{"iat": startTime.Add(-time.Hour).Unix(), "exp": startTime.Unix()}), 400, "invalid_grant", "short-lived"},
		"too long":              {signed(object{"exp": startTime.Add(time.Hour + time.Second).Unix()}), 400, "invalid_grant", "short-lived"},
		"no expiry":             {signed(object{"exp": nil}), 400, "invalid_grant", "short-lived"},
		"no time of issue":      {signed(object{"iat": nil}), 400, "invalid_grant", "short-lived"},
		"from the future":       {signed(object{"iat": startTime.Add(2 * time.Minute).Unix()}), 400, "invalid_grant", "short-lived"},
		"for another subject":   {signed(object{"sub": "dev@example.com"}), 401, "unauthorized_client", "unauthorized"},
		"no scope":              {signed(object{"scope": nil}), 400, "invalid_scope", "Empty or missing scope"},
		"unknown scope":         {signed(object{"scope": "everything"}), 400, "invalid_scope", "Invalid OAuth scope"},
		"claims are no JSON":    {"eyJhbGciOiJSUzI1NiJ9.eA.eA", 400, "invalid_grant", "Invalid JWT"},
	} {
		t.Run(name, func(t *testing.T) {
			checkOAuthError(t, g.redeem(test.assertion), test.status, test.code, test.text)
		})
	}
	if got := g.redeem(signed(nil)); got.status != http.StatusOK {
		t.Errorf("a valid assertion: %d %s", got.status, got.body)
	}
	g.RemoveServiceAccount(testGSA)
	g.AddServiceAccount(testGSA)
	checkOAuthError(t, g.redeem(signed(nil)), 400, "invalid_grant", "Invalid JWT Signature.")
}

func TestRefreshToken_IsChecked(t *testing.T) {
	g := newFixture(t, Options{})
	dev, ops := g.authorizedUser("Dev@example.com", testTokenURI), g.authorizedUser("ops@example.com", testTokenURI)
	if dev["type"] != "authorized_user" || dev["token_uri"] != testTokenURI {
		t.Errorf("%v", dev)
	}
	for name, test := range map[string]struct {
		changes map[string]string
		status  int // 0 means 200
		code    string
	}{
		"valid":                  {nil, 0, ""},
		"fewer scopes":           {map[string]string{"scope": "openid"}, 0, ""},
		"more scopes":            {map[string]string{"scope": "https://www.googleapis.com/auth/drive"}, 400, "invalid_scope"},
		"unknown refresh token":  {map[string]string{"refresh_token": "1//x"}, 400, "invalid_grant"},
		"no refresh token":       {map[string]string{"refresh_token": ""}, 400, "invalid_request"},
		"unknown client":         {map[string]string{"client_id": "x"}, 401, "invalid_client"},
		"no client":              {map[string]string{"client_id": ""}, 401, "invalid_client"},
		"wrong secret":           {map[string]string{"client_secret": "x"}, 401, "invalid_client"},
		"another client's token": {map[string]string{"refresh_token": ops["refresh_token"]}, 401, "unauthorized_client"},
		"another grant type":     {map[string]string{"grant_type": "password"}, 400, "unsupported_grant_type"},
		"no grant type":          {map[string]string{"grant_type": ""}, 400, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			form := refreshForm(dev)
			maps.Copy(form, test.changes)
			got := g.form("/token", form)
			if test.status != 0 {
				checkOAuthError(t, got, test.status, test.code, "")
				return
			}
			granted, _ := g.Inspect(got.field(t, "access_token"))
			if granted.Principal != "user:dev@example.com" || got.field(t, "scope") != strings.Join(granted.Scopes, " ") {
				t.Errorf("%s: %+v", got.body, granted)
			}
		})
	}
}

func TestAuthorizedUser_ImpersonatesIfBound(t *testing.T) {
	g := newFixture(t, Options{SharedQuotaProject: true})
	file := g.authorizedUser("dev@example.com", "")
	if _, ok := file["token_uri"]; ok {
		t.Error("the file has a token_uri, which gcloud does not write")
	}
	user := g.form("/token", refreshForm(file)).field(t, "access_token")
	g.AddServiceAccount(testGSA)
	body := object{"scope": cloudPlatform}
	checkAPIError(t, g.call(user, testGSA, "generateAccessToken", body), 403, "PERMISSION_DENIED", "")
	g.Bind(testGSA, tokenCreator, "user:DEV@example.com")
	granted, ok := g.Inspect(g.call(user, testGSA, "generateAccessToken", body).field(t, "accessToken"))
	if diff := cmp.Diff([]string{"user:dev@example.com"}, granted.DelegationChain); diff != "" || !ok {
		t.Error(ok, diff)
	}
}
