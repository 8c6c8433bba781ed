package googlecheck

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

// issuerURL is the issuer of a kind cluster. Nothing has to answer there: the keys are
// uploaded.
const issuerURL = "https://kubernetes.default.svc.cluster.local"

// The KSA whose tokens the issuer signs.
const (
	ksaNamespace = "default"
	ksaName      = "gme-verify"
	ksaSubject   = "system:serviceaccount:" + ksaNamespace + ":" + ksaName
)

// issuer signs the tokens of a KSA as an API server does.
type issuer struct {
	signer jose.Signer
	public jose.JSONWebKey
}

func newKey() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }

func newIssuer(private *rsa.PrivateKey, keyID string) (*issuer, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: private, KeyID: keyID}}, nil)
	if err != nil {
		return nil, fmt.Errorf("key of the issuer: %w", err)
	}
	return &issuer{signer, jose.JSONWebKey{Key: &private.PublicKey, KeyID: keyID, Algorithm: string(jose.RS256), Use: "sig"}}, nil
}

// jwks is the key set of the issuer (RFC 7517) with some more keys, as during a rotation.
func (i *issuer) jwks(more int) (string, error) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.public}}
	for n := range more {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return "", err
		}
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: private.Public(), KeyID: fmt.Sprintf("next-%d", n), Algorithm: string(jose.ES256), Use: "sig"})
	}
	document, err := json.Marshal(set)
	return string(document), err
}

// token is a token of the KSA.
func (i *issuer) token(audience string, lifetime time.Duration) (string, error) {
	now := time.Now()
	return jwt.Signed(i.signer).Claims(jwt.Claims{
		Issuer: issuerURL, Subject: ksaSubject, Audience: jwt.Audience{audience},
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(lifetime)),
	}).Claims(map[string]any{"kubernetes.io": map[string]any{
		"namespace":      ksaNamespace,
		"serviceaccount": map[string]any{"name": ksaName, "uid": ksaName},
	}}).Serialize()
}

// SubjectToken implements [tokens.SubjectTokens].
func (i *issuer) SubjectToken(_ context.Context, _ identity.Workload, audience string, lifetime time.Duration) (tokens.Token, error) {
	token, err := i.token(audience, lifetime)
	return tokens.NewToken(token, time.Now().Add(lifetime)), err
}
