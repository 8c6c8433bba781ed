package fakegoogle

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"strings"
	"sync"
)

// account is a Google service account.
type account struct {
	email    string
	uniqueID string
	// systemKey returns the key that Google manages. It is generated at first use.
	systemKey func() (*signingKey, error)
	// keys are the downloaded keys by ID. Server.mu guards them.
	keys map[string]*accountKey
	// disabled accounts get no tokens, and their tokens are refused. Server.mu guards it.
	disabled bool
}

func (a *account) member() string { return "serviceAccount:" + a.email }

// user is a person after gcloud auth application-default login.
type user struct {
	email        string
	subject      string
	clientID     string
	clientSecret string
	refreshToken string
	ended        bool // the session, which the organization limits to some hours
}

// AddServiceAccount creates a service account. It does nothing if the account exists.
func (s *Server) AddServiceAccount(email string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ensureAccount(email)
}

// HasServiceAccount reports whether a service account exists.
func (s *Server) HasServiceAccount(email string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, found := s.accounts[strings.ToLower(email)]
	return found
}

// ensureAccount returns a service account, and creates it if it does not exist. The
// caller holds s.mu.
func (s *Server) ensureAccount(email string) *account {
	email = strings.ToLower(email)
	if a, ok := s.accounts[email]; ok {
		return a
	}
	a := &account{
		email:     email,
		uniqueID:  newUniqueID(),
		systemKey: sync.OnceValues(newSigningKey),
		keys:      map[string]*accountKey{},
	}
	s.accounts[email] = a
	return a
}

// RemoveServiceAccount deletes a service account with its keys, its policy and its
// tokens. Other policies name it as a deleted member from now on, as IAM does, so
// that a new account with the same address does not inherit its roles.
func (s *Server) RemoveServiceAccount(email string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	email = strings.ToLower(email)
	removed, ok := s.accounts[email]
	if !ok {
		return
	}
	delete(s.accounts, email)
	delete(s.policies, email)
	for token, granted := range s.grants.byToken {
		if granted.Principal == removed.member() {
			delete(s.grants.byToken, token)
		}
	}
	deleted := fmt.Sprintf("deleted:%s?uid=%s", removed.member(), removed.uniqueID)
	for _, p := range s.policies {
		for _, b := range p {
			for i, member := range b.members {
				if member == removed.member() {
					b.members[i] = deleted
				}
			}
		}
	}
}

// DisableServiceAccount disables a service account: "Existing access tokens for the
// service account are rejected, and requests for new access tokens will fail" (IAM API
// reference, serviceAccounts.disable, 2026). The account is created if it does not exist.
func (s *Server) DisableServiceAccount(email string) { s.setDisabled(email, true) }

// EnableServiceAccount ends the effect of [Server.DisableServiceAccount]: existing tokens
// are accepted again.
func (s *Server) EnableServiceAccount(email string) { s.setDisabled(email, false) }

func (s *Server) setDisabled(email string, disabled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ensureAccount(email).disabled = disabled
}

// holderDisabled reports whether a token is of a disabled service account.
func (s *Server) holderDisabled(granted *grant) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	holder, ok := s.accounts[granted.email]
	return ok && holder.disabled && granted.Principal == holder.member()
}

// EndSessions ends the sessions of a user, as a session length that the organization sets
// does after 1 to 24 hours: the refresh tokens are refused with invalid_rapt until the
// user logs in again, with [Server.AuthorizedUser]. Access tokens stay valid.
func (s *Server) EndSessions(email string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.users {
		if u.email == strings.ToLower(email) {
			u.ended = true
		}
	}
}

// account returns a service account by its e-mail address or unique ID. The caller
// holds s.mu.
func (s *Server) account(name string) (*account, bool) {
	if s.allowAll && looksLikeEmail(name) {
		return s.ensureAccount(name), true
	}
	if a, ok := s.accounts[strings.ToLower(name)]; ok {
		return a, true
	}
	for _, a := range s.accounts {
		if a.uniqueID == name {
			return a, true
		}
	}
	return nil, false
}

func looksLikeEmail(s string) bool {
	name, domain, ok := strings.Cut(s, "@")
	return ok && name != "" && strings.Contains(domain, ".") && !strings.ContainsAny(s, " /\t\n")
}

// accountProject returns the project in a service account's address: see "Service
// accounts overview" for the forms. Compute Engine's address has the project's
// number.
func accountProject(email string) string {
	name, domain, _ := strings.Cut(email, "@")
	switch domain {
	case "developer.gserviceaccount.com":
		number, _, _ := strings.Cut(name, "-")
		return number
	case "appspot.gserviceaccount.com":
		return scopedProject(name)
	}
	project, _ := strings.CutSuffix(domain, ".iam.gserviceaccount.com")
	return scopedProject(project)
}

// scopedProject turns PROJECT.example.com into example.com:PROJECT, the ID of a
// domain-scoped project.
func scopedProject(s string) string {
	if project, domain, ok := strings.Cut(s, "."); ok {
		return domain + ":" + project
	}
	return s
}

// newUniqueID returns a number like the IDs of Google's accounts: 21 digits.
func newUniqueID() string {
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(20), nil)
	n, err := rand.Int(rand.Reader, limit)
	if err != nil {
		panic(err) // cannot happen: crypto/rand never fails
	}
	return fmt.Sprintf("1%020d", n)
}
