package gcs

import (
	"net/http"

	"gke-metadata-emulator/integration/internal/standin"
)

// hasScope reports whether the token's scopes suffice: see "Cloud Storage
// authentication", OAuth scopes.
func hasScope(c *standin.Caller, write bool) bool {
	return c.HasScope("cloud-platform", "devstorage.full_control", "devstorage.read_write") ||
		!write && c.HasScope("devstorage.read_only", "cloud-platform.read-only")
}

// identify returns the caller of a request, or the refusal that answers it.
func (s *Server) identify(r *http.Request, a access) (*standin.Caller, *refusal) {
	token, ok := standin.Bearer(r)
	if !ok {
		return nil, tokenMissing(a.permission)
	}
	c, err := s.tokens.Caller(r.Context(), token)
	if err != nil {
		s.log.WarnContext(r.Context(), "cannot look up a token in fakegoogle", "error", err)
		return nil, backendDown()
	}
	if c == nil {
		return nil, tokenInvalid()
	}
	return c, nil
}
