package fakegoogle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// State is what a Server knows, as a file says it.
type State struct {
	Providers       []StateProvider `json:"providers"`
	ServiceAccounts []string        `json:"serviceAccounts"` // e-mail addresses
	Bindings        []StateBinding  `json:"bindings"`
	Users           []StateUser     `json:"users"`
	// TokenLife is a duration such as 10m.
	TokenLife string `json:"tokenLife"`

	source []byte // for line numbers
}

// StateProvider is a Provider in a file.
type StateProvider struct {
	Name   string `json:"name"`
	Issuer string `json:"issuer"`
	// JWKS is the key set, as an object or as text that holds its JSON.
	JWKS json.RawMessage `json:"jwks"`
	// JWKSFile names a file that holds the key set. This package opens no files:
	// whoever parses the state reads it into JWKS and empties JWKSFile.
	JWKSFile         string   `json:"jwksFile"`
	AllowedAudiences []string `json:"allowedAudiences"`
	GKESubjects      bool     `json:"gkeSubjects"`
}

// StateBinding gives a member a role on a resource; see [Server.Bind].
type StateBinding struct {
	Resource string `json:"resource"`
	Role     string `json:"role"`
	Member   string `json:"member"`
}

// StateUser is a person who is logged in, with what stands in the credentials
// file that they use.
type StateUser struct {
	Email        string `json:"email"`
	ClientID     string `json:"clientID"`
	ClientSecret string `json:"clientSecret"`
	RefreshToken string `json:"refreshToken"`
}

// LoadState adds what a YAML document says; see [State] for its fields. All of
// it or, with an error, none.
func (s *Server) LoadState(document []byte) error {
	state, err := ParseState(document)
	if err != nil {
		return err
	}
	return s.Apply(state)
}

// ParseState reads a YAML document, strictly: a field that State does not have
// is an error.
func ParseState(document []byte) (*State, error) {
	state := &State{source: document}
	if err := yaml.UnmarshalStrict(document, state); err != nil {
		text := err.Error()
		if m := regexp.MustCompile(`unknown field "([^"]+)"`).FindStringSubmatch(text); m != nil {
			return nil, fmt.Errorf("fakegoogle: state: unknown field %q%s: fields are providers, serviceAccounts, bindings, users and tokenLife; see the type State for what they hold", m[1], state.line(m[1]+":"))
		}
		text = strings.TrimPrefix(text, "error unmarshaling JSON: while decoding JSON: ")
		text = strings.TrimPrefix(text, "error converting YAML to JSON: ")
		return nil, fmt.Errorf("fakegoogle: state: %s: correct the YAML; see the type State for the fields and what they hold", text)
	}
	return state, nil
}

// Apply adds what a state says: all of it or, with an error, none. An error
// names the field, its line where that can be told, and what belongs there.
func (s *Server) Apply(state *State) error {
	providers := make([]*provider, 0, len(state.Providers))
	for i, p := range state.Providers {
		parsed, err := p.parse(state, fmt.Sprintf("providers[%d]", i))
		if err != nil {
			return err
		}
		providers = append(providers, parsed)
	}
	for i, email := range state.ServiceAccounts {
		if !looksLikeEmail(email) {
			return state.wrong(fmt.Sprintf("serviceAccounts[%d]", i), email, "write an address such as NAME@PROJECT.iam.gserviceaccount.com")
		}
	}
	for i, b := range state.Bindings {
		if field, value, remedy := b.wrong(); field != "" {
			return state.wrong(fmt.Sprintf("bindings[%d].%s", i, field), value, remedy)
		}
	}
	for i, u := range state.Users {
		if !looksLikeEmail(u.Email) {
			return state.wrong(fmt.Sprintf("users[%d].email", i), u.Email, "write an e-mail address")
		}
		if u.ClientID == "" || u.ClientSecret == "" || u.RefreshToken == "" {
			return state.wrong(fmt.Sprintf("users[%d]", i), u.Email, "write clientID, clientSecret and refreshToken as in the user's credentials file")
		}
	}
	var life time.Duration
	if state.TokenLife != "" {
		var err error
		if life, err = time.ParseDuration(state.TokenLife); err != nil || life <= 0 {
			return state.wrong("tokenLife", state.TokenLife, "write a duration such as 10m or 1h")
		}
	}
	s.install(state, providers, life)
	return nil
}

// install adds a state that was found right.
func (s *Server) install(state *State, providers []*provider, life time.Duration) {
	for _, b := range state.Bindings {
		s.Bind(b.Resource, b.Role, b.Member)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range providers {
		s.providers[p.Name] = p
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
	if life > 0 {
		s.tokenLife = life
	}
}

func (p *StateProvider) parse(state *State, path string) (*provider, error) {
	if p.JWKSFile != "" {
		return nil, state.wrong(path+".jwksFile", p.JWKSFile, "put the content of the file into jwks: no files are read here")
	}
	keys := []byte(p.JWKS)
	if bytes.HasPrefix(keys, []byte(`"`)) {
		var text string
		if err := json.Unmarshal(keys, &text); err != nil {
			return nil, state.wrong(path+".jwks", "", err.Error())
		}
		keys = []byte(text)
	}
	parsed, err := newProvider(Provider{
		Name:             p.Name,
		Issuer:           p.Issuer,
		JWKS:             keys,
		AllowedAudiences: p.AllowedAudiences,
		GKESubjects:      p.GKESubjects,
	})
	if err != nil {
		return nil, state.wrong(path, p.Name, strings.TrimPrefix(err.Error(), "fakegoogle: "))
	}
	return parsed, nil
}

// wrong finds the field of a binding that IAM would not take, with a remedy; no
// field if there is none.
func (b *StateBinding) wrong() (field, value, remedy string) {
	if project, ok := strings.CutPrefix(b.Resource, "projects/"); !looksLikeEmail(b.Resource) && (!ok || project == "") {
		return "resource", b.Resource, "write the e-mail address of a service account, or projects/ID"
	}
	if !strings.Contains(b.Role, "roles/") {
		return "role", b.Role, "write a role such as roles/iam.workloadIdentityUser"
	}
	for _, kind := range []string{"user:", "serviceAccount:", "group:", "domain:", "principal://iam.googleapis.com/", "principalSet://iam.googleapis.com/"} {
		if rest, ok := strings.CutPrefix(b.Member, kind); ok && rest != "" {
			return "", "", ""
		}
	}
	return "member", b.Member, "write serviceAccount:EMAIL, user:EMAIL, serviceAccount:POOL[NAMESPACE/KSA], principal://iam.googleapis.com/... or principalSet://iam.googleapis.com/..."
}

func (state *State) wrong(path, value, remedy string) error {
	return fmt.Errorf("fakegoogle: state: %s %q%s: %s", path, value, state.line(value), remedy)
}

// line tells where a text first occurs in the document, for an error message.
func (state *State) line(text string) string {
	before, _, found := bytes.Cut(state.source, []byte(text))
	if text == "" || !found {
		return ""
	}
	return fmt.Sprintf(" (line %d)", bytes.Count(before, []byte("\n"))+1)
}
