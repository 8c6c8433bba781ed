package tokens

import (
	"strings"
	"testing"
	"time"
)

// A cluster whose signing key has changed, and a provider that has the old one.
func TestRefusedSignatureNamesTheUploadedKeys(t *testing.T) {
	g := startGoogle(t)
	rotated := must(NewLocalIssuer(testIssuer, time.Now))
	e := newEngine(t, g.federation(func(f *Federation) { f.Subjects = rotated }))
	for _, of := range endpoints() {
		_, err := of.ask(t.Context(), e, linked)
		refused := wantError(t, err, Misconfigured,
			"STS returned 400 Bad Request: invalid_grant",
			"signed with key local of issuer "+testIssuer,
			"uploaded JWKS",
			"\nkubectl get --raw /openid/v1/jwks > jwks.json\n"+
				"gcloud iam workload-identity-pools providers update-oidc projects/123456/locations/global/workloadIdentityPools/clusters/providers/shop --jwk-json-path=jwks.json")
		if strings.Contains(refused.Error(), "eyJ") {
			t.Errorf("%s: the text has a token in it", of.name)
		}
	}
}

// What is wrong with the provider's name is not mended by keys.
func TestUnknownProviderDoesNotNameTheKeys(t *testing.T) {
	g := startGoogle(t)
	e := newEngine(t, g.federation(func(f *Federation) { f.Provider = strings.Replace(f.Provider, "shop", "nosuch", 1) }))
	_, err := e.AccessToken(t.Context(), unlinked, DefaultScopes())
	if refused := wantError(t, err, Misconfigured, "invalid_target"); strings.Contains(refused.Error(), "JWKS") {
		t.Errorf("it names the keys:\n%s", refused)
	}
}

func TestTokenThatCannotBeReadIsNotShown(t *testing.T) {
	if said := signedWith(NewToken("not.a.jwt", time.Time{})); strings.Contains(said, "not.a") || said == "" {
		t.Errorf("said %q", said)
	}
}
