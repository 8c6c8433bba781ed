package fakegoogle

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The scopes that the IAM APIs take, and those that let tokeninfo say who
// someone is.
const (
	scopeCloudPlatform = "https://www.googleapis.com/auth/cloud-platform"
	scopeIAM           = "https://www.googleapis.com/auth/iam"
	scopeUserInfoEmail = "https://www.googleapis.com/auth/userinfo.email"
)

// Grant is what an access token stands for.
type Grant struct {
	// Principal is whom Google sees: serviceAccount:EMAIL, user:EMAIL or
	// principal://iam.googleapis.com/.../subject/SUBJECT.
	Principal string
	// Through says how the token came about: who asked for it first, then each
	// service account on the way, the principal itself left out.
	Through []string
	// KSA (NAMESPACE/NAME), Pod (NAMESPACE/NAME) and PodUID come from the
	// Kubernetes token at the beginning of the chain; empty where it had none.
	KSA    string
	Pod    string
	PodUID string
	Scopes []string
	Expiry time.Time
	// QuotaProject is what the request that minted the token named in its
	// X-Goog-User-Project header.
	QuotaProject string
}

// grant is a Grant with what the server alone needs to know.
type grant struct {
	Grant
	members []string // the forms in which an IAM policy may name the principal
	email   string   // of a user or service account
	subject string   // Google's numeric id of it
	client  string   // OAuth client of a user's token
}

// on is what remains of a grant when its holder acts as somebody else.
func (g *grant) on(as ...string) grant {
	through := append(slices.Clone(g.Through), g.Principal)
	return grant{Grant: Grant{
		Through: append(through, as...),
		KSA:     g.KSA, Pod: g.Pod, PodUID: g.PodUID,
	}}
}

// grants are the access tokens in circulation. Expired ones are kept until the
// next pruning, so that a late caller is told that its token expired.
type grants struct {
	byToken map[string]*grant
	prune   int // the size at which expired ones are removed
}

const minPrune = 1024

func (g *grants) add(token string, granted *grant, now time.Time) {
	if len(g.byToken) >= max(g.prune, minPrune) {
		for token, old := range g.byToken {
			if !old.Expiry.After(now) {
				delete(g.byToken, token)
			}
		}
		// Twice what is alive: pruning costs a constant per token issued, and the
		// map stays within twice its live content.
		g.prune = 2 * len(g.byToken)
	}
	g.byToken[token] = granted
}

// Google's prefixes, marked as ours: ya29. is an access token, ya29.d. a
// federated one.
const (
	tokenPrefix          = "ya29.fake-"
	federatedTokenPrefix = "ya29.d.fake-"
)

// issue makes an access token for a grant. Its life is bounded by the server's
// token life.
func (s *Server) issue(granted grant, life time.Duration) (token string, expiry time.Time) {
	size := 96
	prefix := tokenPrefix
	if strings.HasPrefix(granted.Principal, "principal:") {
		// Federated tokens exceed 1 kB ("About Workload Identity Federation for
		// GKE"), which is more than some clients' buffers hold.
		size, prefix = 768, federatedTokenPrefix
	}
	token = prefix + randomText(size)

	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	granted.Expiry = now.Add(min(life, s.tokenLife)).Truncate(time.Second)
	s.grants.add(token, &granted, now)
	return token, granted.Expiry
}

// remaining is a token's life in whole seconds, as expires_in has it.
func (s *Server) remaining(expiry time.Time) int {
	return int(expiry.Sub(s.now()) / time.Second)
}

// Inspect says what an access token stands for; false if it was never issued,
// or has expired, or its service account is gone.
func (s *Server) Inspect(accessToken string) (Grant, bool) {
	granted, live := s.lookup(accessToken)
	if !live {
		return Grant{}, false
	}
	g := granted.Grant
	g.Through = slices.Clone(g.Through)
	g.Scopes = slices.Clone(g.Scopes)
	return g, true
}

// lookup returns the grant of a token that is known, and whether it is live.
func (s *Server) lookup(token string) (*grant, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	granted, ok := s.grants.byToken[token]
	return granted, ok && granted.Expiry.After(s.now())
}

// bearer is the token of an Authorization header.
func bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return token, ok && strings.EqualFold(scheme, "Bearer") && token != ""
}

// apiName is how Google's errors name the API and method that refused.
type apiName struct{ service, method string }

// authenticate finds out who calls an IAM API, and that the token's scopes
// suffice for it.
func (s *Server) authenticate(c *call, api apiName) (*grant, error) {
	token, ok := bearer(c.Request)
	if !ok {
		return nil, unauthenticated("CREDENTIALS_MISSING", api)
	}
	granted, live := s.lookup(token)
	if !live {
		if granted != nil {
			return nil, unauthenticated("ACCESS_TOKEN_EXPIRED", api)
		}
		// Self-signed JWTs and ID tokens end here too.
		return nil, unauthenticated("ACCESS_TOKEN_TYPE_UNSUPPORTED", api)
	}
	c.note("principal", granted.Principal)
	if !slices.Contains(granted.Scopes, scopeCloudPlatform) && !slices.Contains(granted.Scopes, scopeIAM) {
		return nil, insufficientScopes(api)
	}
	if project := quotaProject(c.Request); project != "" && !s.mayBill(granted.members, project) {
		return nil, userProjectDenied(project, api)
	}
	return granted, nil
}

// mayBill says whether a caller may have its calls billed to a project.
func (s *Server) mayBill(members []string, project string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.allowAll || s.policies[normalResource("projects/"+project)].grants(members, permUseServices)
}

// quotaProject is the project that a request wants billed; see "System
// parameters" in Google's API documentation.
func quotaProject(r *http.Request) string {
	return r.Header.Get("X-Goog-User-Project")
}

// scopesOf splits a scope parameter.
func scopesOf(parameter string) []string { return strings.Fields(parameter) }

// knownScope says whether Google could know a scope: there are hundreds, but
// all have one of few forms.
func knownScope(scope string) bool {
	switch scope {
	case "openid", "email", "profile", "https://mail.google.com/":
		return true
	}
	for _, prefix := range []string{"https://www.googleapis.com/auth/", "https://www.google.com/"} {
		if rest, ok := strings.CutPrefix(scope, prefix); ok {
			return rest != "" && !strings.ContainsAny(rest, " ,;")
		}
	}
	return false
}

// randomText is n random bytes as text.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// rfc3339 is how Google writes a Timestamp that has whole seconds.
func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }
