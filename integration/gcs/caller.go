package gcs

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

// hasScopeFor: see "Cloud Storage authentication", OAuth scopes.
func (c *caller) hasScopeFor(write bool) bool {
	return slices.ContainsFunc(c.Scopes, func(scope string) bool {
		switch strings.TrimPrefix(scope, "https://www.googleapis.com/auth/") {
		case "cloud-platform", "devstorage.full_control", "devstorage.read_write":
			return true
		case "devstorage.read_only", "cloud-platform.read-only":
			return !write
		}
		return false
	})
}

// identify finds out who a request is from. The refusal is the answer to it, if any.
func (s *Server) identify(r *http.Request, a access) (*caller, *refusal) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token == "" || !strings.EqualFold(scheme, "Bearer") {
		return nil, tokenMissing(a.permission)
	}
	c, err := s.ask(r, token)
	if err != nil {
		s.log.WarnContext(r.Context(), "fakegoogle did not answer what a token is", "error", err)
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
func (s *Server) ask(r *http.Request, token string) (*caller, error) {
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
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
