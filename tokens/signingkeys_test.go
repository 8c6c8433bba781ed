package tokens

import (
	"strings"
	"testing"
	"time"
)

// The cluster's signing key has changed, and the provider has the old one.
func TestJWKSHint_RefusedSignatureNamesUploadedKeys(t *testing.T) {
	g := startGoogle(t)
	rotated := must(NewLocalIssuer(testIssuer, time.Now))
	e := newEngine(t, g.federation(func(f *Federation) { f.Subjects = rotated }))
	for _, kind := range tokenKinds() {
		_, err := kind.request(t.Context(), e, linked)
		refusal := wantError(t, err, Misconfigured,
			"STS returned 400 Bad Request: invalid_grant",
			"signed with key local of issuer "+testIssuer,
			"uploaded JWKS",
			"\nkubectl get --raw /openid/v1/jwks > jwks.json\n"+
				"gcloud iam workload-identity-pools providers update-oidc projects/123456/locations/global/workloadIdentityPools/clusters/providers/shop --jwk-json-path=jwks.json")
		if strings.Contains(refusal.Error(), "eyJ") {
			t.Errorf("%s: the message contains a token", kind.name)
		}
	}
}

// New keys do not fix a wrong provider name.
func TestJWKSHint_UnknownProviderDoesNotNameKeys(t *testing.T) {
	g := startGoogle(t)
	e := newEngine(t, g.federation(func(f *Federation) { f.Audience = strings.Replace(f.Audience, "shop", "nosuch", 1) }))
	_, err := e.AccessToken(t.Context(), unlinked, DefaultScopes())
	if refusal := wantError(t, err, Misconfigured, "invalid_target"); strings.Contains(refusal.Error(), "JWKS") {
		t.Errorf("the message names the keys:\n%s", refusal)
	}
}

func TestJWKSHint_NamesCommandOfMembership(t *testing.T) {
	const flags = ` --location=europe-west1 --context="$(kubectl config current-context)" --enable-workload-identity --has-private-issuer`
	for project, option := range map[string]string{
		"shop-project": "--project=shop-project",
		"123456":       "--project=$(gcloud projects describe 123456 --format='value(projectId)')",
	} {
		want := "gcloud container fleet memberships register shop " + option + flags
		if got := uploadKeysCommand("https://gkehub.googleapis.com/projects/" + project + "/locations/europe-west1/memberships/shop"); got != want {
			t.Errorf("%s: got %s, want %s", project, got, want)
		}
	}
}

func TestJWKSHint_UnreadableTokenIsNotShown(t *testing.T) {
	if message := signedBy(NewToken("not.a.jwt", time.Time{})); strings.Contains(message, "not.a") || message == "" {
		t.Errorf("message %q", message)
	}
}
