package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// caller is what fakegoogle says of a token.
type caller struct {
	Principal string    `json:"principal"`
	Through   []string  `json:"through"`
	KSA       string    `json:"ksa"`
	Scopes    []string  `json:"scopes"`
	ExpiresAt time.Time `json:"expires_at"`
}

// hasScopeFor: see "Access scopes" in Artifact Registry's documentation of Compute
// Engine, which takes those of Cloud Storage, too.
func (c *caller) hasScopeFor(permission string) bool {
	return slices.ContainsFunc(c.Scopes, func(scope string) bool {
		switch strings.TrimPrefix(scope, "https://www.googleapis.com/auth/") {
		case "cloud-platform", "devstorage.full_control", "devstorage.read_write":
			return true
		case "cloud-platform.read-only", "devstorage.read_only":
			return permission == download
		}
		return false
	})
}

// password is the access token of a request that has one, which is not a token of
// the registry's.
func password(r *http.Request) (string, bool) {
	if user, password, ok := r.BasicAuth(); ok {
		// docker-credential-gcr's name has its version between: _dcgcr_2_2_1_token.
		if user == "oauth2accesstoken" || strings.HasPrefix(user, "_") && strings.HasSuffix(user, "_token") {
			return password, true
		}
		return "", true // which is nobody's
	}
	return bearer(r)
}

func bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return token, ok && token != "" && strings.EqualFold(scheme, "Bearer")
}

// identify finds out whose an access token is.
func (s *Server) identify(ctx context.Context, token string) (*caller, *refusal) {
	if token == "" {
		return nil, tokenInvalid()
	}
	c, err := s.ask(ctx, token)
	if err != nil {
		s.log.WarnContext(ctx, "fakegoogle did not answer what a token is", "error", err)
		return nil, backendDown()
	}
	if c == nil {
		return nil, tokenInvalid()
	}
	return c, nil
}

// askTimeout is generous for a call to the same machine.
const askTimeout = 5 * time.Second

// ask returns nil for a token that is none, or none any more.
func (s *Server) ask(ctx context.Context, token string) (*caller, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.fake+"/fakegoogle/v1/token", nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := s.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w; is fakegoogle running there?", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	switch {
	case err != nil:
		return nil, err
	case response.StatusCode == http.StatusUnauthorized:
		return nil, nil
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answered %s; is it fakegoogle?", s.fake, response.Status)
	}
	c := new(caller)
	if err := json.Unmarshal(body, c); err != nil {
		return nil, fmt.Errorf("%s: %w; is it fakegoogle?", s.fake, err)
	}
	return c, nil
}
