package registry

import (
	"context"
	"net/http"
	"strings"

	"gke-metadata-emulator/integration/internal/standin"
)

// hasScope reports whether the token's scopes suffice: see "Access scopes" in Artifact
// Registry's documentation of Compute Engine. Cloud Storage's scopes suffice, too.
func hasScope(c *standin.Caller, permission string) bool {
	return c.HasScope("cloud-platform", "devstorage.full_control", "devstorage.read_write") ||
		permission == download && c.HasScope("devstorage.read_only", "cloud-platform.read-only")
}

// password returns the access token of a request that has one. Tokens that the registry
// issued are no access tokens.
func password(r *http.Request) (string, bool) {
	if user, password, ok := r.BasicAuth(); ok {
		// docker-credential-gcr has its version in the name: _dcgcr_2_2_1_token.
		if user == "oauth2accesstoken" || strings.HasPrefix(user, "_") && strings.HasSuffix(user, "_token") {
			return password, true
		}
		return "", true // an invalid token
	}
	return standin.Bearer(r)
}

// identify returns the caller with an access token, or the refusal that answers it.
func (s *Server) identify(ctx context.Context, token string) (*standin.Caller, *refusal) {
	if token == "" {
		return nil, tokenInvalid()
	}
	c, err := s.access.Caller(ctx, token)
	if err != nil {
		s.log.WarnContext(ctx, "cannot look up a token in fakegoogle", "error", err)
		return nil, backendDown()
	}
	if c == nil {
		return nil, tokenInvalid()
	}
	return c, nil
}
