package tokens

import (
	"errors"
	"fmt"

	"golang.org/x/oauth2"
)

// keysRemedy names the key that signed a refused KSA token, and the command that uploads
// the cluster's keys to the provider. Google's response names neither: after a rotation
// the cluster's signing key is just an unknown key.
func keysRemedy(r refusal) string {
	return fmt.Sprintf("%s A provider with an uploaded JWKS accepts only the keys in it. "+
		"If the keys were uploaded and the cluster's signing key has changed, upload them again:\n"+
		"kubectl get --raw /openid/v1/jwks > jwks.json\n"+
		"gcloud iam workload-identity-pools providers update-oidc %s --jwk-json-path=jwks.json\n"+
		"A provider without uploaded keys fetches them from the issuer, which must be reachable from the Internet.",
		signedBy(r.subject), providerPath(r.provider))
}

// invalidGrant reports whether STS refused the KSA's token itself. RFC 6749 says no more
// than "invalid, expired, revoked".
func invalidGrant(err error) bool {
	var refusal *oauth2.RetrieveError
	return errors.As(err, &refusal) && refusal.Response != nil && oauthAnswer(stsService, refusal).code == "invalid_grant"
}

// signedBy names the key and the issuer in a token.
func signedBy(subject Token) string {
	claims, keyID, err := parseJWT(subject.Value())
	if err != nil {
		return "The metadata server cannot parse the token."
	}
	return fmt.Sprintf("The token was signed with key %s of issuer %s.", keyID, claims.Issuer)
}
