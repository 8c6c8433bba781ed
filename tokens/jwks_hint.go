package tokens

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"
)

// withKeys adds to the refusal of a KSA's token which key has signed it, and how the
// provider gets to know the cluster's keys. Google's answer names neither: to it the
// cluster's signing key after a rotation is one like any that it does not know.
func withKeys(e *Error, provider string, subject Token) *Error {
	if !invalidGrant(e) {
		return e
	}
	e.Message += fmt.Sprintf("\n%s Where the keys were uploaded to the provider, it knows those of the uploaded JWKS only. "+
		"After a change of the cluster's signing key upload them anew:\n"+
		"kubectl get --raw /openid/v1/jwks > jwks.json\n"+
		"gcloud iam workload-identity-pools providers update-oidc %s --jwk-json-path=jwks.json",
		signedWith(subject), strings.TrimPrefix(provider, "//iam.googleapis.com/"))
	return e
}

// invalidGrant says that STS refuses the KSA's token itself. RFC 6749: "invalid, expired,
// revoked", and nothing more precise.
func invalidGrant(err error) bool {
	var refused *oauth2.RetrieveError
	return errors.As(err, &refused) && oauthReason(refused).Code == "invalid_grant"
}

// signedWith says whose the token's signature is, as the token has it.
func signedWith(subject Token) string {
	var claims jwt.Claims
	parsed, err := jwt.ParseSigned(subject.Value(), []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.RS384, jose.RS512, jose.ES384, jose.ES512})
	if err == nil {
		err = parsed.UnsafeClaimsWithoutVerification(&claims)
	}
	if err != nil {
		return "The token is none that the metadata server can read."
	}
	return fmt.Sprintf("The token was signed with key %s of issuer %s.", parsed.Headers[0].KeyID, claims.Issuer)
}
