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
	// systemKey is the key that Google manages, made when first used.
	systemKey func() (*signingKey, error)
	// keys are those that a user downloaded, by key id.
	keys map[string]*accountKey
}

func (a *account) member() string { return "serviceAccount:" + a.email }

// user is a person who ran gcloud auth application-default login.
type user struct {
	email        string
	subject      string
	clientID     string
	clientSecret string
	refreshToken string
}

// AddServiceAccount makes a service account; nothing changes if it is there.
func (s *Server) AddServiceAccount(email string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ensureAccount(email)
}

// ensureAccount returns a service account and makes it if it is new. The lock
// is held.
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

// RemoveServiceAccount deletes a service account with its keys, its policy and
// its tokens. In the policies of others it becomes what IAM makes of a deleted
// member, so that a new account of the same name does not inherit its rights.
func (s *Server) RemoveServiceAccount(email string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	email = strings.ToLower(email)
	gone, ok := s.accounts[email]
	if !ok {
		return
	}
	delete(s.accounts, email)
	delete(s.policies, email)
	for token, granted := range s.grants.byToken {
		if granted.Principal == gone.member() {
			delete(s.grants.byToken, token)
		}
	}
	deleted := fmt.Sprintf("deleted:%s?uid=%s", gone.member(), gone.uniqueID)
	for _, p := range s.policies {
		for _, b := range p {
			for i, member := range b.members {
				if member == gone.member() {
					b.members[i] = deleted
				}
			}
		}
	}
}

// account finds a service account by its e-mail address or unique id. The lock
// is held.
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

// projectOf is the project that a service account's address tells: see "Service
// accounts overview" for the forms. Those of Compute Engine tell a number.
func projectOf(email string) string {
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

// scopedProject turns PROJECT.example.com into example.com:PROJECT, the id of a
// domain-scoped project.
func scopedProject(s string) string {
	if project, domain, ok := strings.Cut(s, "."); ok {
		return domain + ":" + project
	}
	return s
}

// newUniqueID is a number like those of Google's accounts: 21 digits.
func newUniqueID() string {
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(20), nil)
	n, err := rand.Int(rand.Reader, limit)
	if err != nil {
		panic(err) // cannot happen: crypto/rand never fails
	}
	return fmt.Sprintf("1%020d", n)
}
