package fakegoogle

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The scopes that the IAM APIs accept, and the scope with which tokeninfo names
// the principal.
const (
	scopeCloudPlatform = "https://www.googleapis.com/auth/cloud-platform"
	scopeIAM           = "https://www.googleapis.com/auth/iam"
	scopeUserInfoEmail = "https://www.googleapis.com/auth/userinfo.email"
)

// Grant describes the access that a token gives.
type Grant struct {
	// Principal is the identity that Google's APIs see: serviceAccount:EMAIL,
	// user:EMAIL or principal://iam.googleapis.com/.../subject/SUBJECT.
	Principal string
	// DelegationChain is the way from the first caller to the principal: the first
	// caller, then each delegate, without the principal. It is empty if the principal
	// got the token itself.
	DelegationChain []string
	// KSA (NAMESPACE/NAME), Pod (NAMESPACE/NAME) and PodUID come from the
	// Kubernetes token at the beginning of the chain. They are empty if there was
	// none; Pod and PodUID also if the token was not bound to a pod.
	KSA    string
	Pod    string
	PodUID string
	Scopes []string
	Expiry time.Time
	// QuotaProject is the X-Goog-User-Project header of the request for the token.
	QuotaProject string
}

// grant is a Grant with the fields that only the server needs.
type grant struct {
	Grant
	members []string // the forms in which an IAM policy can name the principal
	pool    string   // of a federated token
	email   string   // of a user or service account
	subject string   // Google's numeric ID of the user or service account
	client  string   // OAuth client of a user's token
}

// delegated returns the grant, without a principal yet, of an account that the
// holder of g impersonates through the delegates.
func (g *grant) delegated(delegates ...string) grant {
	chain := append(slices.Clone(g.DelegationChain), g.Principal)
	return grant{Grant: Grant{
		DelegationChain: append(chain, delegates...),
		KSA:             g.KSA, Pod: g.Pod, PodUID: g.PodUID,
	}}
}

// grants are the access tokens in circulation. Expired tokens are kept until the
// next pruning, so that a late caller gets ACCESS_TOKEN_EXPIRED.
type grants struct {
	byToken map[string]*grant
	pruneAt int // the size at which expired tokens are removed
}

const minPruneAt = 1024

func (g *grants) add(token string, granted *grant, now time.Time) {
	if len(g.byToken) >= max(g.pruneAt, minPruneAt) {
		for token, old := range g.byToken {
			if !old.Expiry.After(now) {
				delete(g.byToken, token)
			}
		}
		// Twice the number of live tokens: pruning costs a constant per issued token,
		// and the map stays within twice its live content.
		g.pruneAt = 2 * len(g.byToken)
	}
	g.byToken[token] = granted
}

// Google's prefixes, marked as fake: ya29. is an access token, ya29.d. a federated
// token.
const (
	tokenPrefix          = "ya29.fake-"
	federatedTokenPrefix = "ya29.d.fake-"
)

// issue makes an access token for a grant, with the lesser of the given lifetime
// and the server's.
func (s *Server) issue(granted grant, lifetime time.Duration) (token string, expiry time.Time) {
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
	granted.Expiry = now.Add(min(lifetime, s.tokenLifetime)).Truncate(time.Second)
	s.grants.add(token, &granted, now)
	return token, granted.Expiry
}

// expiresIn is the rest of a token's lifetime in whole seconds: the field expires_in.
func (s *Server) expiresIn(expiry time.Time) int {
	return int(expiry.Sub(s.now()) / time.Second)
}

// Inspect returns the grant of an access token. It returns false if the token was
// never issued, has expired, or belongs to a removed or disabled service
// account or a deleted pool.
func (s *Server) Inspect(accessToken string) (Grant, bool) {
	granted, live := s.lookup(accessToken)
	if !live || s.inDeletedPool(granted) || s.holderDisabled(granted) {
		return Grant{}, false
	}
	g := granted.Grant
	g.DelegationChain = slices.Clone(g.DelegationChain)
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

// inDeletedPool reports whether a token is of a pool that was deleted: "Credentials
// issued for a deleted pool do not grant access to resources. If the pool is undeleted,
// and the credentials are not expired, they grant access again" (iam/v1 discovery
// document of 2026-10-23).
func (s *Server) inDeletedPool(granted *grant) bool {
	if granted.pool == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.poolActive(granted.pool)
}

// bearerToken returns the token of the Authorization header.
func bearerToken(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return token, ok && strings.EqualFold(scheme, "Bearer") && token != ""
}

// apiName is the API and method that Google's errors name.
type apiName struct{ service, method string }

// authenticate returns the grant of a caller of an IAM API. It refuses a token whose
// scopes do not suffice, and a quota project that the caller cannot use.
func (s *Server) authenticate(c *call, api apiName) (*grant, error) {
	token, ok := bearerToken(c.Request)
	if !ok {
		return nil, unauthenticated("CREDENTIALS_MISSING", api)
	}
	granted, live := s.lookup(token)
	if !live {
		if granted != nil {
			return nil, unauthenticated("ACCESS_TOKEN_EXPIRED", api)
		}
		// Self-signed JWTs and ID tokens are refused here too.
		return nil, unauthenticated("ACCESS_TOKEN_TYPE_UNSUPPORTED", api)
	}
	c.addLogAttr("principal", granted.Principal)
	if s.holderDisabled(granted) {
		return nil, accountStateInvalid(granted.email, api)
	}
	if s.inDeletedPool(granted) {
		powerless := *granted
		powerless.members = nil
		granted = &powerless
	}
	if !slices.Contains(granted.Scopes, scopeCloudPlatform) && !slices.Contains(granted.Scopes, scopeIAM) {
		return nil, insufficientScopes(api)
	}
	if project := quotaProject(c.Request); project != "" && !s.canBill(granted.members, project) {
		return nil, userProjectDenied(project, api)
	} else if project == "" && granted.client != "" && !s.sharesQuota() {
		return nil, quotaProjectRequired(api.service)
	}
	return granted, s.checkAPI(granted.consumer(c), api.service)
}

// sharesQuota reports whether a user needs no quota project.
func (s *Server) sharesQuota() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.allowAll || s.sharedQuota
}

// canBill reports whether a caller has the permission to use a project as its quota
// project.
func (s *Server) canBill(members []string, project string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.allowAll || s.policies[normalResource("projects/"+project)].grants(members, permUseServices)
}

// quotaProject returns the project to which a request is billed; see "System
// parameters" in Google's API documentation.
func quotaProject(r *http.Request) string {
	return r.Header.Get("X-Goog-User-Project")
}

// splitScopes splits a scope parameter: RFC 6749, section 3.3.
func splitScopes(parameter string) []string { return strings.Fields(parameter) }

// knownScope reports whether a scope has one of the few forms that Google's hundreds
// of scopes have.
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

// randomText returns n random bytes in base64url.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// rfc3339 formats a google.protobuf.Timestamp of whole seconds.
func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }
