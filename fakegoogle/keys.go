package fakegoogle

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// signingKey is an RSA key with an ID of Google's form: 40 hexadecimal digits.
type signingKey struct {
	id      string
	private *rsa.PrivateKey
}

func newSigningKey() (*signingKey, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("fakegoogle: generate a key: %w", err)
	}
	id := sha1.Sum(x509.MarshalPKCS1PublicKey(&private.PublicKey))
	return &signingKey{id: hex.EncodeToString(id[:]), private: private}, nil
}

// signJWT signs claims: a struct, a map, or a json.RawMessage whose bytes are kept.
func (k *signingKey) signJWT(claims any) (string, error) {
	options := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", k.id)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: k.private}, options)
	if err != nil {
		return "", fmt.Errorf("fakegoogle: sign: %w", err)
	}
	if raw, ok := claims.(json.RawMessage); ok {
		signed, err := signer.Sign(raw)
		if err != nil {
			return "", fmt.Errorf("fakegoogle: sign: %w", err)
		}
		return signed.CompactSerialize()
	}
	return jwt.Signed(signer).Claims(claims).Serialize()
}

func (k *signingKey) signBlob(blob []byte) ([]byte, error) {
	sum := sha256.Sum256(blob)
	return rsa.SignPKCS1v15(rand.Reader, k.private, crypto.SHA256, sum[:])
}

// jwks returns the public key in the form in which Google publishes its keys.
func (k *signingKey) jwks() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{
		Key: &k.private.PublicKey, KeyID: k.id, Algorithm: string(jose.RS256), Use: "sig",
	}}}
}

// certs serves the public keys that verify ID tokens.
func (s *Server) certs(*call) (any, error) {
	key, err := s.idTokenKey()
	if err != nil {
		return nil, err
	}
	return key.jwks(), nil
}

// accountCerts serves an account's public keys: the key of signBlob and signJwt,
// then the downloaded keys, which sign assertions.
func (s *Server) accountCerts(c *call) (any, error) {
	s.mu.Lock()
	found, ok := s.account(c.PathValue("email"))
	s.mu.Unlock()
	if !ok {
		return nil, newAPIError(http.StatusNotFound, "Requested entity was not found.")
	}
	key, err := found.systemKey()
	if err != nil {
		return nil, err
	}
	set := key.jwks()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range found.keys {
		set.Keys = append(set.Keys, k.jwks().Keys...)
	}
	return set, nil
}

// accountKey is a key that a user downloaded.
type accountKey struct {
	*signingKey
	tokenURI string // the only audience that its assertions can have
}

// googleTokenURI is the token_uri of Google's own key files.
const googleTokenURI = "https://oauth2.googleapis.com/token"

// ServiceAccountKey creates a key for a service account and returns the JSON file
// that Google would offer for download. The account is created if it does not
// exist. tokenURI is the endpoint that redeems the key: the server's base URL
// followed by /token; default: Google's. The error is that of the key's generation.
func (s *Server) ServiceAccountKey(email, tokenURI string) ([]byte, error) {
	key, err := newSigningKey()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key.private)
	if err != nil {
		return nil, fmt.Errorf("fakegoogle: encode a key: %w", err)
	}
	if tokenURI == "" {
		tokenURI = googleTokenURI
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	owner := s.ensureAccount(email)
	owner.keys[key.id] = &accountKey{signingKey: key, tokenURI: tokenURI}
	return json.MarshalIndent(map[string]string{
		"type":                        "service_account",
		"project_id":                  accountProject(owner.email),
		"private_key_id":              key.id,
		"private_key":                 string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email":                owner.email,
		"client_id":                   owner.uniqueID,
		"auth_uri":                    "https://accounts.google.com/o/oauth2/auth",
		"token_uri":                   tokenURI,
		"auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
		"client_x509_cert_url":        "https://www.googleapis.com/robot/v1/metadata/x509/" + url.QueryEscape(owner.email),
		"universe_domain":             "googleapis.com",
	}, "", "  ")
}
