package fakegoogle

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// The IAM permissions that these APIs require.
const (
	permGetAccessToken     = "iam.serviceAccounts.getAccessToken"
	permGetOpenIDToken     = "iam.serviceAccounts.getOpenIdToken"
	permSignBlob           = "iam.serviceAccounts.signBlob"
	permSignJWT            = "iam.serviceAccounts.signJwt"
	permImplicitDelegation = "iam.serviceAccounts.implicitDelegation"
	permGetIAMPolicy       = "iam.serviceAccounts.getIamPolicy"
	permUseServices        = "serviceusage.services.use"
)

// rolePermissions returns the permissions of a predefined role that these APIs
// require: "IAM roles and permissions index" in Google's documentation. The roles
// owner and editor do lack getAccessToken.
func rolePermissions(role string) []string {
	switch role {
	case "roles/iam.workloadIdentityUser":
		return []string{permGetAccessToken, permGetOpenIDToken}
	case "roles/iam.serviceAccountTokenCreator":
		return []string{permGetAccessToken, permGetOpenIDToken, permSignBlob, permSignJWT, permImplicitDelegation}
	case "roles/iam.serviceAccountOpenIdTokenCreator":
		return []string{permGetOpenIDToken}
	case "roles/iam.serviceAccountAdmin",
		"roles/iam.serviceAccountViewer",
		"roles/iam.securityAdmin",
		"roles/iam.securityReviewer",
		"roles/viewer":
		return []string{permGetIAMPolicy}
	case "roles/editor", "roles/owner":
		return []string{permGetIAMPolicy, permUseServices}
	case "roles/serviceusage.serviceUsageConsumer":
		return []string{permUseServices}
	default:
		return nil
	}
}

// grants reports whether a policy grants one of the members a permission.
func (p policy) grants(members []string, permission string) bool {
	for _, b := range p {
		if slices.Contains(rolePermissions(b.role), permission) &&
			slices.ContainsFunc(b.members, func(m string) bool { return slices.Contains(members, m) }) {
			return true
		}
	}
	return false
}

// permitted reports whether a caller has a permission on a service account, by the
// policy of the account or of its project. The caller holds s.mu.
func (s *Server) permitted(members []string, email, permission string) bool {
	if s.allowAll {
		return len(members) > 0 // a token of a deleted pool has no member
	}
	return s.policies[email].grants(members, permission) ||
		s.policies["projects/"+accountProject(email)].grants(members, permission)
}

// serviceAccountCall splits EMAIL:VERB. The colon is literal and the address can be
// percent-encoded; the path value is decoded.
func (s *Server) serviceAccountCall(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("call")
	verb := ""
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		name, verb = name[:i], name[i+1:]
	}
	var method string
	var handle func(*call, string) (any, error)
	switch verb {
	case "generateAccessToken":
		method, handle = MethodGenerateAccessToken, s.generateAccessToken
	case "generateIdToken":
		method, handle = MethodGenerateIDToken, s.generateIDToken
	case "signBlob":
		method, handle = MethodSignBlob, s.signBlob
	case "signJwt":
		method, handle = MethodSignJWT, s.signJWT
	case "getIamPolicy":
		method, handle = MethodGetIAMPolicy, s.getIAMPolicy
	default:
		writeError(w, newAPIError(http.StatusNotFound, "Method not found."))
		return
	}
	s.endpoint(method, func(c *call) (any, error) {
		c.addLogAttr("serviceAccount", name)
		return handle(c, name)
	}).ServeHTTP(w, r)
}

// wirePolicy is google.iam.v1.Policy.
type wirePolicy struct {
	Version  int           `json:"version,omitempty"`
	ETag     string        `json:"etag"`
	Bindings []wireBinding `json:"bindings,omitempty"`
}

type wireBinding struct {
	Role    string   `json:"role"`
	Members []string `json:"members"`
}

// getIAMPolicy is projects.serviceAccounts.getIamPolicy of the IAM API.
func (s *Server) getIAMPolicy(c *call, name string) (any, error) {
	caller, err := s.authenticate(c, apiName{"iam.googleapis.com", "google.iam.admin.v1.IAM.GetIamPolicy"})
	if err != nil {
		return nil, err
	}
	// The options travel in the query: the body has no fields.
	if err := decode(c.body, &struct{}{}); err != nil {
		return nil, err
	}
	switch v := c.URL.Query().Get("options.requestedPolicyVersion"); v {
	case "", "0", "1", "2", "3":
	default:
		return nil, invalidArgument("Invalid value at 'options.requested_policy_version' (TYPE_INT32), %q", v)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	project := c.PathValue("project")
	target, ok := s.account(name)
	if ok && project != "-" && !inProject(target.email, project) {
		ok = false
	}
	if !ok {
		// Only a caller with the permission on the project gets 404: "Using the -
		// wildcard character is not recommended, because it can cause response
		// messages to contain misleading error codes" (IAM API reference), that is
		// 403 instead of 404.
		if s.policies["projects/"+project].grants(caller.members, permGetIAMPolicy) {
			return nil, newAPIError(http.StatusNotFound, "Unknown service account")
		}
		return nil, permissionDenied(permGetIAMPolicy)
	}
	if !s.permitted(caller.members, target.email, permGetIAMPolicy) {
		return nil, permissionDenied(permGetIAMPolicy)
	}
	return s.policies[target.email].wire(), nil
}

// inProject reports whether a service account is in a project. The address of a
// Compute Engine account has the project's number, not its ID, so any project
// matches.
func inProject(email, project string) bool {
	return accountProject(email) == project || strings.HasSuffix(email, "@developer.gserviceaccount.com")
}

func (p policy) wire() wirePolicy {
	if len(p) == 0 {
		return wirePolicy{ETag: "ACAB"} // Google's answer if no policy was ever set
	}
	wire := wirePolicy{Version: 1}
	for _, b := range p {
		wire.Bindings = append(wire.Bindings, wireBinding{Role: b.role, Members: slices.Clone(b.members)})
	}
	sum := sha256.Sum256(fmt.Append(nil, wire.Bindings))
	wire.ETag = base64.StdEncoding.EncodeToString(sum[:8])
	return wire
}
