package registry

import (
	"crypto/rand"
	"encoding/json"
	"gke-metadata-emulator/integration/internal/standin"
	"net/http"
	"slices"
	"time"
)

const tokenPath = "/v2/token"

// maxTokens is how many issued tokens a registry remembers.
const maxTokens = 10_000

// grant is what a token that the registry issued allows.
type grant struct {
	standin.Caller
	wanted []access
}

func (g grant) covers(a access) bool {
	return slices.ContainsFunc(g.wanted, func(w access) bool { return w.image == a.image && w.action == a.action })
}

// exchange gives a token of the registry's for an access token: "Token
// Authentication Specification" of the distribution project.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request, location string, record *Record) *refusal {
	if r.Method != http.MethodGet {
		return methodUnknown()
	}
	wanted, refused := scopes(location, r.URL.Query()["scope"])
	if refused != nil {
		return refused
	}
	if len(wanted) > 0 {
		record.Repository = wanted[0].repository
	}
	token, given := password(r)
	switch {
	case !given && len(wanted) > 0:
		return anonymous(wanted[0])
	case !given:
		return tokenMissing()
	}
	caller, refused := s.identify(r.Context(), token)
	if refused != nil {
		return refused
	}
	record.by(caller)
	for _, a := range wanted {
		if refused := s.permit(caller, a); refused != nil {
			return refused
		}
	}
	answer := struct {
		Token     string `json:"token"`
		ExpiresIn int    `json:"expires_in"`
	}{s.issue(grant{*caller, wanted}), int(caller.ExpiresAt.Sub(s.now()) / time.Second)}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // a caller that hung up is its own problem
	return nil
}

func (s *Server) issue(g grant) string {
	token := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tokens) >= maxTokens {
		for other, has := range s.tokens {
			if !has.ExpiresAt.After(s.now()) {
				delete(s.tokens, other)
			}
		}
	}
	if len(s.tokens) >= maxTokens {
		clear(s.tokens) // clients exchange their tokens again
	}
	s.tokens[token] = g
	return token
}

// issued returns the grant of a token that the registry issued, or false if the token is
// unknown or has expired.
func (s *Server) issued(token string) (grant, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.tokens[token]
	return g, ok && g.ExpiresAt.After(s.now())
}
