package googlecheck

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"

	"gke-metadata-emulator/tokens"
)

// Cluster is the API server of a cluster that is not GKE.
type Cluster interface {
	// Document reads a document of the OpenID provider.
	Document(ctx context.Context, path string) ([]byte, error)
	// RequestToken requests a token of a KSA (authentication.k8s.io/v1, TokenRequest).
	RequestToken(ctx context.Context, namespace, account string, request *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)
}

// clusterToken registers the cluster as docs/federation.md does, and exchanges a token of
// its KSA default/default.
func clusterToken(ctx context.Context, s *scratch) (string, bool, error) {
	if s.Cluster == nil {
		return "", false, notApplicable("it needs a cluster that is not GKE, for example of kind; add --kubeconfig=FILE")
	}
	configuration, err := s.Cluster.Document(ctx, "/.well-known/openid-configuration")
	if err != nil {
		return "", false, fmt.Errorf("issuer of the cluster: %v", err)
	}
	var discovered struct {
		Issuer string `json:"issuer"`
	}
	if err := json.Unmarshal(configuration, &discovered); err != nil {
		return "", false, fmt.Errorf("issuer of the cluster: %v", err)
	}
	keys, err := s.Cluster.Document(ctx, "/openid/v1/jwks")
	if err != nil {
		return "", false, fmt.Errorf("keys of the cluster: %v", err)
	}
	if _, err := s.sharedPool(ctx); err != nil {
		return "", false, err
	}
	provider, err := s.newProvider(ctx, "cluster", discovered.Issuer, string(keys))
	if err != nil {
		return is(err, http.StatusOK, "")
	}
	lifetime := int64(3600) // seconds
	response, err := s.Cluster.RequestToken(ctx, ksaNamespace, "default", &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"https:" + provider}, ExpirationSeconds: &lifetime},
	})
	if err != nil {
		return "", false, fmt.Errorf("token of the KSA default/default: %v", err)
	}
	return is(s.eventually(ctx, func() error {
		_, err := s.exchangeToken(ctx, provider, response.Status.Token, tokens.CloudPlatform)
		return err
	}), http.StatusOK, "")
}
