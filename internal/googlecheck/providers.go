package googlecheck

import (
	"context"
	"net/http"
)

// rotationKeys is more keys than a rotation of a cluster's signing key ever uploads: the
// old one, the present one and the next one, for some clusters twice.
const rotationKeys = 9

// providerChecks are about providers of workload identity pools.
func providerChecks() []Check {
	return []Check{{"providers/JWKS of nine keys is accepted", "200: a rotation of the signing key uploads two or three", "IAM API v1 states no limit for oidc.jwksJson",
		func(ctx context.Context, s *scratch) (string, bool, error) {
			if _, err := s.sharedPool(ctx); err != nil {
				return "", false, err
			}
			_, err := s.newOwnProvider(ctx, "rotation", rotationKeys-1)
			return is(err, http.StatusOK, "")
		}}}
}
