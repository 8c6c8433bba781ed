package tokens

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/oauth2"
)

// withJWKSHint adds to the refusal of a KSA's token the key that signed it, and the
// command that uploads the cluster's keys to the provider. Google's response names
// neither: after a rotation the cluster's signing key is just an unknown key.
func withJWKSHint(e *Error, provider string, subject Token) *Error {
	if !invalidGrant(e) {
		return e
	}
	e.Message += fmt.Sprintf("\n%s A provider with an uploaded JWKS accepts only the keys in it. "+
		"If the cluster's signing key has changed, upload the keys again:\n"+
		"kubectl get --raw /openid/v1/jwks > jwks.json\n"+
		"gcloud iam workload-identity-pools providers update-oidc %s --jwk-json-path=jwks.json",
		signedBy(subject), strings.TrimPrefix(provider, "//iam.googleapis.com/"))
	return e
}

// invalidGrant reports whether STS refused the KSA's token itself. RFC 6749 says no more
// than "invalid, expired, revoked".
func invalidGrant(err error) bool {
	var refusal *oauth2.RetrieveError
	return errors.As(err, &refusal) && oauthReason(refusal).Code == "invalid_grant"
}

// signedBy names the key and the issuer in a token.
func signedBy(subject Token) string {
	claims, keyID, err := parseJWT(subject.Value())
	if err != nil {
		return "The metadata server cannot parse the token."
	}
	return fmt.Sprintf("The token was signed with key %s of issuer %s.", keyID, claims.Issuer)
}
