package fakegoogle

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"
)

func TestGenerateIDToken_SignsClaims(t *testing.T) {
	g := newFixture(t, Options{})
	g.Bind(testGSA, wiUser, testCaller)
	var certs jose.JSONWebKeySet
	if err := json.Unmarshal(g.do("GET", "/oauth2/v3/certs", nil, "").body, &certs); err != nil {
		t.Fatal(err)
	}
	for _, includeEmail := range []bool{false, true} {
		token := g.call(g.federate(nil), testGSA, "generateIdToken", object{"audience": "https://shop.example", "includeEmail": includeEmail}).field(t, "token")
		parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
		if err != nil {
			t.Fatal(err)
		}
		var claims object
		if err := parsed.Claims(certs, &claims); err != nil {
			t.Fatal(err)
		}
		id, _ := claims["sub"].(string)
		if len(id) != 21 {
			t.Errorf("sub %q", id)
		}
		want := object{
			"iss": "https://accounts.google.com", "aud": "https://shop.example", "azp": id, "sub": id,
			"iat": float64(startTime.Unix()), "exp": float64(startTime.Add(time.Hour).Unix()),
		}
		if includeEmail {
			want["email"], want["email_verified"] = testGSA, true
		}
		if diff := cmp.Diff(want, claims); diff != "" {
			t.Error(diff)
		}
	}
}

func TestSignatures_VerifyWithPublishedKeys(t *testing.T) {
	g := newFixture(t, Options{})
	g.Bind(testGSA, tokenCreator, testCaller)
	var certs jose.JSONWebKeySet
	if err := json.Unmarshal(g.do("GET", "/service_accounts/v1/jwk/"+testGSA, nil, "").body, &certs); err != nil {
		t.Fatal(err)
	}
	public, _ := certs.Keys[0].Key.(*rsa.PublicKey)

	got := g.call(g.federate(nil), testGSA, "signBlob", object{"payload": base64.StdEncoding.EncodeToString([]byte("blob"))})
	signature := must(base64.StdEncoding.DecodeString(got.field(t, "signedBlob")))
	sum := sha256.Sum256([]byte("blob"))
	if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature); err != nil || got.field(t, "keyId") != certs.Keys[0].KeyID {
		t.Errorf("signBlob: %v, %s", err, got.body)
	}

	got = g.call(g.federate(nil), testGSA, "signJwt", object{"payload": `{"b":1,"a":"x"}`})
	parsed := must(jwt.ParseSigned(got.field(t, "signedJwt"), []jose.SignatureAlgorithm{jose.RS256}))
	var claims object
	if err := parsed.Claims(public, &claims); err != nil {
		t.Errorf("signJwt: %v", err)
	}
	if diff := cmp.Diff(object{"b": 1.0, "a": "x"}, claims); diff != "" || parsed.Headers[0].KeyID != got.field(t, "keyId") {
		t.Error(diff, got)
	}
}
