package tokens

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"gke-metadata-emulator/identity"
)

// LocalIssuer signs KSA tokens with a key of its own, for use without a cluster. The key
// is never stored.
type LocalIssuer struct {
	issuer string
	signer jose.Signer
	public jose.JSONWebKey
	now    func() time.Time
}

// NewLocalIssuer returns an issuer of that name with a new key.
func NewLocalIssuer(issuer string, now func() time.Time) (*LocalIssuer, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("local issuer: %w", err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: private, KeyID: "local"}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("local issuer: %w", err)
	}
	return &LocalIssuer{issuer: issuer, signer: signer, now: now,
		public: jose.JSONWebKey{Key: private.Public(), KeyID: "local", Algorithm: string(jose.ES256), Use: "sig"}}, nil
}

// Issuer is the iss claim of its tokens.
func (l *LocalIssuer) Issuer() string { return l.issuer }

// JWKS is the key set that verifies its tokens (RFC 7517).
func (l *LocalIssuer) JWKS() ([]byte, error) {
	return json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{l.public}})
}

// SubjectToken implements [SubjectTokens], with the same claims as the API server.
func (l *LocalIssuer) SubjectToken(_ context.Context, w identity.Workload, audience string, lifetime time.Duration) (Token, error) {
	now := l.now()
	expiry := now.Add(lifetime)
	type named struct {
		Name string `json:"name"`
		UID  string `json:"uid"`
	}
	signed, err := jwt.Signed(l.signer).Claims(jwt.Claims{
		Issuer: l.issuer, Subject: kubernetesSubject(w.KSA), Audience: jwt.Audience{audience},
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(expiry),
	}).Claims(map[string]any{"kubernetes.io": map[string]any{
		"namespace":      w.KSA.Namespace,
		"pod":            named{w.Pod.Name, w.Pod.UID},
		"serviceaccount": named{w.KSA.Name, w.KSA.UID},
	}}).Serialize()
	if err != nil {
		return Token{}, &Error{Kind: Misconfigured, Message: "Unable to sign a token of the service account", Err: err}
	}
	return NewToken(signed, expiry), nil
}

// kubernetesSubject is the sub claim of a KSA's token.
func kubernetesSubject(ksa identity.ServiceAccount) string {
	return "system:serviceaccount:" + ksa.Namespace + ":" + ksa.Name
}
