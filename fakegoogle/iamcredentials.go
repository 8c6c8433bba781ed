package fakegoogle

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

func credentialsAPI(method string) apiName {
	return apiName{"iamcredentials.googleapis.com", "google.iam.credentials.v1.IAMCredentials." + method}
}

// impersonate checks that the caller has the permission on a service account,
// directly or through a delegate chain: "each service account must be granted the
// roles/iam.serviceAccountTokenCreator role on its next service account in the
// chain" (IAM Service Account Credentials reference). It returns the account and
// a grant with the caller's delegation chain.
func (s *Server) impersonate(c *call, caller *grant, name string, delegates []string, permission string) (*account, grant, error) {
	if c.PathValue("project") != "-" {
		// "The - wildcard character is required; replacing it with a project ID is
		// invalid" (same reference).
		return nil, grant{}, invalidArgument("Invalid form of account ID %s. Should be [Gaia ID |Email |Unique ID |] of the account", name)
	}
	chain := make([]string, 0, len(delegates)+1)
	for _, delegate := range delegates {
		hop, ok := strings.CutPrefix(delegate, "projects/-/serviceAccounts/")
		if !ok {
			return nil, grant{}, invalidArgument("Invalid value for field \"delegates\": %q. Expected projects/-/serviceAccounts/{ACCOUNT_EMAIL_OR_UNIQUEID}.", delegate)
		}
		chain = append(chain, hop)
	}
	chain = append(chain, name)

	s.mu.Lock()
	defer s.mu.Unlock()
	members := caller.members
	var delegateMembers []string
	for i, hop := range chain {
		found, ok := s.account(hop)
		if !ok {
			return nil, grant{}, newAPIError(http.StatusNotFound, "Not found; Gaia id not found for email "+hop)
		}
		last := i == len(chain)-1
		needed := permImplicitDelegation
		if last {
			needed = permission
		}
		if !s.permitted(members, found.email, needed) {
			return nil, grant{}, permissionDenied(needed)
		}
		if found.disabled {
			return nil, grant{}, accountDisabled(found.email)
		}
		if last {
			return found, caller.delegated(delegateMembers...), nil
		}
		members = []string{found.member()}
		delegateMembers = append(delegateMembers, found.member())
	}
	panic("unreachable: the chain ends with the account itself")
}

func (s *Server) generateAccessToken(c *call, name string) (any, error) {
	caller, err := s.authenticate(c, credentialsAPI("GenerateAccessToken"))
	if err != nil {
		return nil, err
	}
	var request struct {
		Delegates []string `json:"delegates"`
		Scope     []string `json:"scope"`
		Lifetime  string   `json:"lifetime"`
	}
	if err := decode(c.body, &request); err != nil {
		return nil, err
	}
	scopes, err := requestedScopes(request.Scope)
	if err != nil {
		return nil, err
	}
	lifetime, err := s.lifetime(name, request.Lifetime)
	if err != nil {
		return nil, err
	}
	target, granted, err := s.impersonate(c, caller, name, request.Delegates, permGetAccessToken)
	if err != nil {
		return nil, err
	}
	granted.Scopes = scopes
	granted.QuotaProject = quotaProject(c.Request)
	token, expiry := s.issue(target.grant(granted), lifetime)
	return map[string]string{"accessToken": token, "expireTime": rfc3339(expiry)}, nil
}

// grant returns g with the account as its principal.
func (a *account) grant(g grant) grant {
	g.Principal = a.member()
	g.members = []string{a.member()}
	g.email = a.email
	g.subject = a.uniqueID
	return g
}

// requestedScopes checks the scopes of an access token: "At least one value required"
// (generateAccessToken reference). That one empty string means cloud-platform is inferred.
func requestedScopes(scopes []string) ([]string, error) {
	if len(scopes) == 0 {
		return nil, invalidArgument("Scope field is required.")
	}
	if len(scopes) == 1 && scopes[0] == "" {
		return []string{scopeCloudPlatform}, nil
	}
	if !allKnown(scopes) {
		return nil, invalidArgument("Request contains an invalid argument.")
	}
	return slices.Clone(scopes), nil
}

// duration is google.protobuf.Duration in JSON.
var duration = regexp.MustCompile(`^-?[0-9]+(\.[0-9]{1,9})?s$`)

// lifetime parses the requested lifetime of an access token.
func (s *Server) lifetime(name, text string) (time.Duration, error) {
	if text == "" {
		return defaultTokenLifetime, nil
	}
	if !duration.MatchString(text) {
		return 0, invalidArgument("Invalid value at 'lifetime' (type.googleapis.com/google.protobuf.Duration), Field 'lifetime', Illegal duration format; duration must end with 's'")
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, invalidArgument("Invalid value at 'lifetime' (type.googleapis.com/google.protobuf.Duration), Field 'lifetime', Duration out of range")
	case d <= 0:
		return 0, invalidArgument("Lifetime of access token must be larger then zero.") // sic
	case d > s.maxLifetime && s.maxLifetime == time.Hour:
		return 0, invalidArgument("Account %s can not have lifetimes of more than 1 hour. Use the Org Policy Constraint "+
			"constraints/iam.allowServiceAccountCredentialLifetimeExtension to allow up to 12 hours.", name)
	case d > s.maxLifetime:
		return 0, invalidArgument("Account %s can not have lifetimes of more than 12 hours.", name)
	}
	return d, nil
}

func (s *Server) generateIDToken(c *call, name string) (any, error) {
	caller, err := s.authenticate(c, credentialsAPI("GenerateIdToken"))
	if err != nil {
		return nil, err
	}
	var request struct {
		Delegates                  []string `json:"delegates"`
		Audience                   string   `json:"audience"`
		IncludeEmail               bool     `json:"includeEmail"`
		OrganizationNumberIncluded bool     `json:"organizationNumberIncluded"` // there is no organization
	}
	if err := decode(c.body, &request); err != nil {
		return nil, err
	}
	if request.Audience == "" {
		return nil, invalidArgument("Audience field is required.")
	}
	target, _, err := s.impersonate(c, caller, name, request.Delegates, permGetOpenIDToken)
	if err != nil {
		return nil, err
	}
	token, err := s.idToken(target, request.Audience, request.IncludeEmail)
	if err != nil {
		return nil, err
	}
	return map[string]string{"token": token}, nil
}

// idToken issues an OpenID Connect ID token as Google does for service accounts.
func (s *Server) idToken(a *account, audience string, includeEmail bool) (string, error) {
	key, err := s.idTokenKey()
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	lifetime := min(time.Hour, s.tokenLifetime)
	s.mu.Unlock()
	now := s.now()
	claims := map[string]any{
		"iss": "https://accounts.google.com",
		"aud": audience,
		"azp": a.uniqueID,
		"sub": a.uniqueID,
		"iat": now.Unix(),
		"exp": now.Add(lifetime).Unix(),
	}
	if includeEmail {
		claims["email"] = a.email
		claims["email_verified"] = true
	}
	return key.signJWT(claims)
}

func (s *Server) signBlob(c *call, name string) (any, error) {
	caller, err := s.authenticate(c, credentialsAPI("SignBlob"))
	if err != nil {
		return nil, err
	}
	var request struct {
		Delegates []string `json:"delegates"`
		Payload   string   `json:"payload"`
	}
	if err := decode(c.body, &request); err != nil {
		return nil, err
	}
	blob, err := decodeBytes(request.Payload)
	if err != nil {
		return nil, invalidArgument("Invalid value at 'payload' (TYPE_BYTES), Base64 decoding failed.")
	}
	if len(blob) == 0 {
		return nil, invalidArgument("Payload field is required.")
	}
	key, err := s.impersonatedKey(c, caller, name, request.Delegates, permSignBlob)
	if err != nil {
		return nil, err
	}
	signature, err := key.signBlob(blob)
	if err != nil {
		return nil, err
	}
	return map[string]any{"keyId": key.id, "signedBlob": signature}, nil
}

// maxSignedLifetime is the limit of exp, which "must not be more than 12 hours in
// the future" (IAM Service Account Credentials reference, signJwt).
const maxSignedLifetime = 12 * time.Hour

func (s *Server) signJWT(c *call, name string) (any, error) {
	caller, err := s.authenticate(c, credentialsAPI("SignJwt"))
	if err != nil {
		return nil, err
	}
	var request struct {
		Delegates []string `json:"delegates"`
		Payload   string   `json:"payload"`
	}
	if err := decode(c.body, &request); err != nil {
		return nil, err
	}
	var claims struct {
		Exp *json.Number `json:"exp"`
	}
	if !strings.HasPrefix(strings.TrimSpace(request.Payload), "{") || json.Unmarshal([]byte(request.Payload), &claims) != nil {
		return nil, invalidArgument("Payload must be a JSON object of claims, as text.")
	}
	if claims.Exp != nil {
		exp, err := claims.Exp.Int64()
		if now := s.now(); err != nil || !time.Unix(exp, 0).After(now) || time.Unix(exp, 0).After(now.Add(maxSignedLifetime)) {
			return nil, invalidArgument("Claim exp must be an integer timestamp that is in the future, by no more than 12 hours.")
		}
	}
	key, err := s.impersonatedKey(c, caller, name, request.Delegates, permSignJWT)
	if err != nil {
		return nil, err
	}
	signed, err := key.signJWT(json.RawMessage(request.Payload))
	if err != nil {
		return nil, err
	}
	return map[string]string{"keyId": key.id, "signedJwt": signed}, nil
}

func (s *Server) impersonatedKey(c *call, caller *grant, name string, delegates []string, permission string) (*signingKey, error) {
	target, _, err := s.impersonate(c, caller, name, delegates, permission)
	if err != nil {
		return nil, err
	}
	return target.systemKey()
}

// decodeBytes decodes a bytes field of protobuf's JSON: base64 in either alphabet,
// with or without padding.
func decodeBytes(text string) ([]byte, error) {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	return base64.RawStdEncoding.DecodeString(text)
}

// allowedLocations answers that the account has no trust boundary.
func allowedLocations(*call) (any, error) {
	return map[string]any{"locations": []string{}, "encodedLocations": "0x0"}, nil
}
