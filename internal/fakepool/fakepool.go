// Package fakepool answers one question: whose KSA tokens does the built-in fake Google
// accept?
//
// The operator of a real cluster registers its issuer with Google as the provider of a
// workload identity pool. With the built-in fake, the program does so itself: for the
// cluster's API server, or for an issuer of its own if there is no cluster.
//
// The package must not know which Google service accounts the tokens may use.
package fakepool

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/internal/backoff"
	"gke-metadata-emulator/tokens"
)

// publisher is the part of the API server that publishes its issuer and keys, as each
// OpenID provider does.
type publisher interface {
	Document(ctx context.Context, path string) ([]byte, error)
}

// TrustCluster registers a cluster's API server as a provider. It retries until that
// has succeeded or ctx ends.
func TrustCluster(ctx context.Context, google *fakegoogle.Server, provider string, cluster publisher, log *slog.Logger) {
	backoff.Retry(ctx, func(ctx context.Context) error {
		err := trustCluster(ctx, google, provider, cluster)
		if err != nil {
			log.Warn("the fake Google does not know the cluster's keys yet; retrying", "error", err)
		}
		return err
	})
}

func trustCluster(ctx context.Context, google *fakegoogle.Server, provider string, cluster publisher) error {
	configuration, err := cluster.Document(ctx, "/.well-known/openid-configuration")
	if err != nil {
		return fmt.Errorf("issuer discovery: %w", err)
	}
	var discovered struct {
		Issuer string `json:"issuer"`
	}
	if err := json.Unmarshal(configuration, &discovered); err != nil {
		return fmt.Errorf("issuer discovery: %w", err)
	}
	keys, err := cluster.Document(ctx, "/openid/v1/jwks")
	if err != nil {
		return fmt.Errorf("key set: %w", err)
	}
	return google.AddProvider(fakegoogle.Provider{Name: provider, Issuer: discovered.Issuer, JWKS: keys})
}

// TrustLocalIssuer makes an issuer of KSA tokens and registers it as a provider.
func TrustLocalIssuer(google *fakegoogle.Server, provider string) (*tokens.LocalIssuer, error) {
	issuer, err := tokens.NewLocalIssuer("https://standalone.gke-metadata-emulator.local", time.Now)
	if err != nil {
		return nil, err
	}
	keys, err := issuer.JWKS()
	if err != nil {
		return nil, err
	}
	return issuer, google.AddProvider(fakegoogle.Provider{Name: provider, Issuer: issuer.Issuer(), JWKS: keys})
}
