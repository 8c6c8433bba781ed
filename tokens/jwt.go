package tokens

import (
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// jwtAlgorithms are all asymmetric ones: the API server signs with RS256 or ES256/384/512,
// Google with RS256.
var jwtAlgorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// parseJWT reads the claims of a JWT and the ID of its key. It does not verify the
// signature: the token came over TLS from the server that signed it.
func parseJWT(token string) (claims jwt.Claims, keyID string, err error) {
	parsed, err := jwt.ParseSigned(token, jwtAlgorithms)
	if err != nil {
		return jwt.Claims{}, "", err
	}
	if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return jwt.Claims{}, "", err
	}
	return claims, parsed.Headers[0].KeyID, nil
}
