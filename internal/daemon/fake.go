package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"

	"gke-metadata-emulator/fakegoogle"
)

// startFake serves the built-in offline Google, which lets every KSA use every
// GSA, and returns where it listens. Its provider is added by the caller.
func startFake(g group, address string, log *slog.Logger) (*fakegoogle.Server, string, error) {
	return serveFake(g, address, fakegoogle.New(fakegoogle.Options{AllowAll: true, Log: log}))
}

// serveFake serves a given one.
func serveFake(g group, address string, google *fakegoogle.Server) (*fakegoogle.Server, string, error) {
	listener, err := listen("fake-listen", address)
	if err != nil {
		return nil, "", err
	}
	g.serveHTTP("fake Google", listener, google)
	return google, "http://" + listener.Addr().(*net.TCPAddr).String(), nil
}

// publisher is the API server, which publishes its keys as any OpenID provider does.
type publisher interface {
	Document(ctx context.Context, path string) ([]byte, error)
}

// trustCluster makes the fake accept the KSA tokens of a cluster, as its operator
// would tell Google: by issuer and key set, which the API server publishes.
func trustCluster(ctx context.Context, google *fakegoogle.Server, provider string, client publisher, log *slog.Logger) error {
	return retry(ctx, func(ctx context.Context) error {
		err := func() error {
			configuration, err := client.Document(ctx, "/.well-known/openid-configuration")
			if err != nil {
				return fmt.Errorf("issuer discovery: %w", err)
			}
			var discovered struct {
				Issuer string `json:"issuer"`
			}
			if err := json.Unmarshal(configuration, &discovered); err != nil {
				return fmt.Errorf("issuer discovery: %w", err)
			}
			keys, err := client.Document(ctx, "/openid/v1/jwks")
			if err != nil {
				return fmt.Errorf("key set: %w", err)
			}
			return google.AddProvider(fakegoogle.Provider{Name: provider, Issuer: discovered.Issuer, JWKS: keys})
		}()
		if err != nil {
			log.Warn("the fake Google does not know the cluster's keys yet, it is tried again", "error", err)
		}
		return err
	})
}
