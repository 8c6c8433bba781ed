package fakegoogle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"

	"gke-metadata-emulator/internal/document"
)

// State is the content of a state file, which [Server.LoadState] reads.
type State struct {
	Pools           []string          `json:"pools"` // full resource names; see [Server.AddPool]
	GKEPools        []StateGKEPool    `json:"gkePools"`
	Providers       []StateProvider   `json:"providers"`
	Memberships     []StateMembership `json:"memberships"`
	ServiceAccounts []string          `json:"serviceAccounts"` // e-mail addresses
	Bindings        []StateBinding    `json:"bindings"`
	Users           []StateUser       `json:"users"`
	// TokenLifetime is the longest lifetime of a token: a duration such as 10m.
	TokenLifetime string `json:"tokenLife"`
	// SharedQuotaProject is that of [Options].
	SharedQuotaProject bool `json:"sharedQuotaProject"`

	document []byte // as parsed, for line numbers in errors
}

// StateGKEPool is a pool that GKE created; see [Server.AddGKEPool].
type StateGKEPool struct {
	ProjectID     string `json:"projectID"`
	ProjectNumber string `json:"projectNumber"`
}

// StateProvider is a [Provider] in a state file.
type StateProvider struct {
	Name string `json:"name"`
	StateIssuer
	AllowedAudiences []string `json:"allowedAudiences"`
}

// StateMembership is a [Membership] in a state file.
type StateMembership struct {
	Name          string `json:"name"`
	WorkloadPool  string `json:"workloadPool"`
	ProjectNumber string `json:"projectNumber"`
	StateIssuer
}

// StateIssuer is an issuer of tokens in a state file.
type StateIssuer struct {
	Issuer string `json:"issuer"`
	// JWKS is the key set, as an object or as a string that holds its JSON.
	JWKS json.RawMessage `json:"jwks"`
	// JWKSFile names a file that holds the key set. This package opens no files:
	// the caller of [ParseState] reads the file into JWKS and clears JWKSFile.
	JWKSFile string `json:"jwksFile"`
}

// StateBinding grants a member a role on a resource; see [Server.Bind].
type StateBinding struct {
	Resource string `json:"resource"`
	Role     string `json:"role"`
	Member   string `json:"member"`
}

// StateUser is a logged-in user, with the fields of their credentials file.
type StateUser struct {
	Email        string `json:"email"`
	ClientID     string `json:"clientID"`
	ClientSecret string `json:"clientSecret"`
	RefreshToken string `json:"refreshToken"`
}

// LoadState adds the content of a YAML document; see [State] for its fields. If it
// returns an error, nothing is added.
func (s *Server) LoadState(document []byte) error {
	state, err := ParseState(document)
	if err != nil {
		return err
	}
	return s.Apply(state)
}

// ParseState reads a YAML document. A field that State does not have is an error.
func ParseState(content []byte) (*State, error) {
	state := &State{document: content}
	if err := document.Unmarshal(content, state); err != nil {
		text := err.Error()
		if m := regexp.MustCompile(`unknown field "([^"]+)"`).FindStringSubmatch(text); m != nil {
			return nil, fmt.Errorf("fakegoogle: state: unknown field %q%s: the top-level fields are pools, gkePools, providers, memberships, serviceAccounts, bindings, users, tokenLife and sharedQuotaProject", m[1], state.line(m[1]+":"))
		}
		return nil, fmt.Errorf("fakegoogle: state: %s: correct the YAML", text)
	}
	return state, nil
}

// Apply adds the content of a state. If it returns an error, nothing is added. The
// error names the field, its line if that is known, and the values it can have.
func (s *Server) Apply(state *State) error {
	providers := make([]*provider, 0, len(state.Providers)+len(state.Memberships))
	for i, p := range state.Providers {
		path := fmt.Sprintf("providers[%d]", i)
		keys, err := p.keys(state, path)
		if err != nil {
			return err
		}
		parsed, err := newProvider(Provider{Name: p.Name, Issuer: p.Issuer, JWKS: keys, AllowedAudiences: p.AllowedAudiences})
		if err != nil {
			return state.fieldError(path, p.Name, remedyOf(err))
		}
		providers = append(providers, parsed)
	}
	for i, m := range state.Memberships {
		path := fmt.Sprintf("memberships[%d]", i)
		keys, err := m.keys(state, path)
		if err != nil {
			return err
		}
		parsed, err := newMembership(Membership{Name: m.Name, WorkloadPool: m.WorkloadPool, ProjectNumber: m.ProjectNumber, Issuer: m.Issuer, JWKS: keys})
		if err != nil {
			return state.fieldError(path, m.Name, remedyOf(err))
		}
		providers = append(providers, parsed)
	}
	for i, name := range state.Pools {
		if err := parsePoolName(name); err != nil {
			return state.fieldError(fmt.Sprintf("pools[%d]", i), name, remedyOf(err))
		}
	}
	for i, p := range state.GKEPools {
		if err := checkGKEPool(gkePoolID(p.ProjectID), p.ProjectNumber); err != nil {
			return state.fieldError(fmt.Sprintf("gkePools[%d]", i), p.ProjectID, remedyOf(err))
		}
	}
	for i, email := range state.ServiceAccounts {
		if !looksLikeEmail(email) {
			return state.fieldError(fmt.Sprintf("serviceAccounts[%d]", i), email, "write an address such as NAME@PROJECT.iam.gserviceaccount.com")
		}
	}
	for i, b := range state.Bindings {
		if field, value, remedy := b.invalidField(); field != "" {
			return state.fieldError(fmt.Sprintf("bindings[%d].%s", i, field), value, remedy)
		}
	}
	for i, u := range state.Users {
		if !looksLikeEmail(u.Email) {
			return state.fieldError(fmt.Sprintf("users[%d].email", i), u.Email, "write an e-mail address")
		}
		if u.ClientID == "" || u.ClientSecret == "" || u.RefreshToken == "" {
			return state.fieldError(fmt.Sprintf("users[%d]", i), u.Email, "write clientID, clientSecret and refreshToken as in the user's credentials file")
		}
	}
	var lifetime time.Duration
	if state.TokenLifetime != "" {
		var err error
		if lifetime, err = time.ParseDuration(state.TokenLifetime); err != nil || lifetime <= 0 {
			return state.fieldError("tokenLife", state.TokenLifetime, "write a duration such as 10m or 1h")
		}
	}
	return s.install(state, providers, lifetime)
}

// install adds a state whose fields have been checked. If it returns an error, nothing is
// added.
func (s *Server) install(state *State, providers []*provider, lifetime time.Duration) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pools, gkePools, formerProviders := maps.Clone(s.pools), maps.Clone(s.gkePools), maps.Clone(s.providers)
	defer func() {
		if err != nil {
			s.pools, s.gkePools, s.providers = pools, gkePools, formerProviders
		}
	}()
	for i, name := range state.Pools {
		if err := s.ensurePool(name); err != nil {
			return state.fieldError(fmt.Sprintf("pools[%d]", i), name, remedyOf(err))
		}
	}
	for i, p := range state.GKEPools {
		if err := s.ensureGKEPool(gkePoolID(p.ProjectID), p.ProjectNumber); err != nil {
			return state.fieldError(fmt.Sprintf("gkePools[%d]", i), p.ProjectID, remedyOf(err))
		}
	}
	for _, p := range providers {
		if err := s.ensureProvider(p); err != nil {
			return state.fieldError("name", p.Name, remedyOf(err))
		}
	}
	for i, b := range state.Bindings {
		if err := s.checkMember(b.Member); err != nil {
			return state.fieldError(fmt.Sprintf("bindings[%d].member", i), b.Member, remedyOf(err))
		}
	}
	for _, b := range state.Bindings {
		_ = s.bind(b.Resource, b.Role, b.Member) // the member has been checked
	}
	for _, email := range state.ServiceAccounts {
		s.ensureAccount(email)
	}
	for _, u := range state.Users {
		s.users[u.RefreshToken] = &user{
			email:        strings.ToLower(u.Email),
			subject:      newUniqueID(),
			clientID:     u.ClientID,
			clientSecret: u.ClientSecret,
			refreshToken: u.RefreshToken,
		}
	}
	s.sharedQuota = s.sharedQuota || state.SharedQuotaProject
	if lifetime > 0 {
		s.tokenLifetime = lifetime
	}
	return nil
}

// remedyOf is the text of an error, for a [State.fieldError].
func remedyOf(err error) string { return strings.TrimPrefix(err.Error(), "fakegoogle: ") }

// keys returns the key set. An issuer without one has an empty key set, which is refused:
// the keys of a state are not fetched from its issuers.
func (p *StateIssuer) keys(state *State, path string) ([]byte, error) {
	if p.JWKSFile != "" {
		return nil, state.fieldError(path+".jwksFile", p.JWKSFile, "put the content of the file into jwks: this server reads no files")
	}
	keys := []byte(p.JWKS)
	if bytes.HasPrefix(keys, []byte(`"`)) {
		var text string
		if err := json.Unmarshal(keys, &text); err != nil {
			return nil, state.fieldError(path+".jwks", "", err.Error())
		}
		keys = []byte(text)
	}
	if len(keys) == 0 {
		keys = []byte("{}")
	}
	return keys, nil
}

// invalidField returns the first field that has no known form, with a remedy. It
// returns empty strings if all fields are valid.
func (b *StateBinding) invalidField() (field, value, remedy string) {
	if project, ok := strings.CutPrefix(b.Resource, "projects/"); !looksLikeEmail(b.Resource) && (!ok || project == "") {
		return "resource", b.Resource, "write the e-mail address of a service account, or projects/ID"
	}
	if !strings.Contains(b.Role, "roles/") {
		return "role", b.Role, "write a role such as roles/iam.workloadIdentityUser"
	}
	for _, kind := range memberKinds {
		if rest, ok := strings.CutPrefix(b.Member, kind.prefix); ok && rest != "" {
			return "", "", ""
		}
	}
	return "member", b.Member, "write serviceAccount:EMAIL, user:EMAIL, serviceAccount:POOL[NAMESPACE/KSA], principal://iam.googleapis.com/... or principalSet://iam.googleapis.com/..."
}

func (state *State) fieldError(path, value, remedy string) error {
	return fmt.Errorf("fakegoogle: state: %s %q%s: %s", path, value, state.line(value), remedy)
}

// line returns the line on which a text first occurs in the document, for an error
// message; empty if it does not occur.
func (state *State) line(text string) string {
	before, _, found := bytes.Cut(state.document, []byte(text))
	if text == "" || !found {
		return ""
	}
	return fmt.Sprintf(" (line %d)", bytes.Count(before, []byte("\n"))+1)
}
