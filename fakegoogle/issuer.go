package fakegoogle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	issuerTimeout = 5 * time.Second // of both requests together
	maxIssuerBody = 1 << 20         // bytes
)

// errNoIssuer is the refusal of a token if the keys of its issuer are not known; "Troubleshoot
// Workload Identity Federation" has the text.
func errNoIssuer() error {
	return oauthFailure("invalid_grant", "Error connecting to the given credential's issuer.")
}

// publicKeys fetches the keys of an issuer as Google does for a provider without uploaded
// keys: by OpenID Connect Discovery 1.0, section 4. Google caches the keys; this does not.
func publicKeys(ctx context.Context, client *http.Client, issuer string) (jose.JSONWebKeySet, error) {
	if client == nil {
		return jose.JSONWebKeySet{}, errors.New("no issuer can be reached")
	}
	ctx, cancel := context.WithTimeout(ctx, issuerTimeout)
	defer cancel()
	document, err := fetch(ctx, client, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return jose.JSONWebKeySet{}, err
	}
	var discovery struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(document, &discovery); err != nil {
		return jose.JSONWebKeySet{}, fmt.Errorf("discovery document of %s: %w", issuer, err)
	}
	if discovery.Issuer != issuer {
		return jose.JSONWebKeySet{}, fmt.Errorf("the discovery document of %s is of the issuer %q", issuer, discovery.Issuer)
	}
	keys, err := fetch(ctx, client, discovery.JWKSURI)
	if err != nil {
		return jose.JSONWebKeySet{}, err
	}
	return parseJWKS(keys)
}

func fetch(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, maxIssuerBody))
}
