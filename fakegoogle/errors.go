package fakegoogle

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
)

// Error is a refusal in the shape of all Google APIs: google.rpc.Status with a
// google.rpc.ErrorInfo. See "Errors" in Google's API design guide (AIP-193).
type Error struct {
	Code     int    // HTTP status
	Status   string // name of the google.rpc.Code
	Message  string // Google's text
	reason   string // of the ErrorInfo, which is left out if the reason is empty
	domain   string
	metadata map[string]string
	details  []any // in addition to the ErrorInfo
	header   http.Header
}

func (e *Error) Error() string {
	return fmt.Sprintf("%d %s: %s", e.Code, e.Status, e.Message)
}

func newAPIError(code int, message string) *Error {
	return &Error{Code: code, Status: rpcStatus(code), Message: message}
}

// rpcStatus is the name of the google.rpc.Code that Google's front end maps to
// an HTTP status.
func rpcStatus(code int) string {
	switch code {
	case http.StatusBadRequest:
		return "INVALID_ARGUMENT"
	case http.StatusUnauthorized:
		return "UNAUTHENTICATED"
	case http.StatusForbidden:
		return "PERMISSION_DENIED"
	case http.StatusNotFound:
		return "NOT_FOUND"
	case http.StatusConflict:
		return "ABORTED"
	case http.StatusTooManyRequests:
		return "RESOURCE_EXHAUSTED"
	case 499:
		return "CANCELLED"
	case http.StatusNotImplemented:
		return "UNIMPLEMENTED"
	case http.StatusServiceUnavailable:
		return "UNAVAILABLE"
	case http.StatusGatewayTimeout:
		return "DEADLINE_EXCEEDED"
	default:
		if code < http.StatusInternalServerError {
			return "FAILED_PRECONDITION"
		}
		return "INTERNAL"
	}
}

// MarshalJSON returns the body of an answer.
func (e *Error) MarshalJSON() ([]byte, error) {
	details := e.details
	if e.reason != "" {
		info := map[string]any{
			"@type":  "type.googleapis.com/google.rpc.ErrorInfo",
			"reason": e.reason,
			"domain": e.domain,
		}
		if len(e.metadata) > 0 {
			info["metadata"] = e.metadata
		}
		details = append([]any{info}, details...)
	}
	status := map[string]any{"code": e.Code, "message": e.Message, "status": e.Status}
	if len(details) > 0 {
		status["details"] = details
	}
	return json.Marshal(map[string]any{"error": status})
}

// invalidArgument is a 400. Google names the field only in some of them.
func invalidArgument(format string, args ...any) *Error {
	return newAPIError(http.StatusBadRequest, fmt.Sprintf(format, args...))
}

// unknownField is the refusal by Google's front end of a field that a request
// message does not have.
func unknownField(name string) *Error {
	text := fmt.Sprintf("Invalid JSON payload received. Unknown name %q: Cannot find field.", name)
	e := newAPIError(http.StatusBadRequest, text)
	e.details = []any{map[string]any{
		"@type":           "type.googleapis.com/google.rpc.BadRequest",
		"fieldViolations": []any{map[string]any{"description": text}},
	}}
	return e
}

// permissionDenied is IAM's refusal. It does not say whether the service
// account exists.
func permissionDenied(permission string) *Error {
	return &Error{
		Code:     http.StatusForbidden,
		Status:   "PERMISSION_DENIED",
		Message:  fmt.Sprintf("Permission '%s' denied on resource (or it may not exist).", permission),
		reason:   "IAM_PERMISSION_DENIED",
		domain:   "iam.googleapis.com",
		metadata: map[string]string{"permission": permission},
	}
}

// accountDisabled is the refusal to issue anything for a disabled service account. The
// text is Compute Engine's and GKE's (hashicorp/terraform-provider-google#12677,
// 2022-10-03); that IAM Credentials has the same is inferred.
func accountDisabled(email string) *Error {
	return &Error{Code: http.StatusBadRequest, Status: "FAILED_PRECONDITION", Message: "Service account " + email + " is disabled."}
}

// accountStateInvalid is the refusal of a token of a disabled service account.
func accountStateInvalid(email string, api apiName) *Error {
	e := unauthenticated("ACCOUNT_STATE_INVALID", api)
	e.metadata["email"] = email
	return e
}

// userProjectDenied is the refusal to bill a project.
func userProjectDenied(project string, api apiName) *Error {
	return &Error{
		Code:   http.StatusForbidden,
		Status: "PERMISSION_DENIED",
		Message: fmt.Sprintf("Caller does not have required permission to use project %[1]s. Grant the caller the roles/serviceusage.serviceUsageConsumer role, "+
			"or a custom role with the serviceusage.services.use permission, by visiting "+
			"https://console.developers.google.com/iam-admin/iam/project?project=%[1]s and then retry. Propagation of the new permission may take a few minutes.", project),
		reason:   "USER_PROJECT_DENIED",
		domain:   "googleapis.com",
		metadata: map[string]string{"consumer": "projects/" + project, "service": api.service},
	}
}

// unauthenticated is the refusal of a missing or invalid bearer token.
func unauthenticated(reason string, api apiName) *Error {
	const expected = "Expected OAuth 2 access token, login cookie or other valid authentication credential. " +
		"See https://developers.google.com/identity/sign-in/web/devconsole-project."
	message, challenge := "Request had invalid authentication credentials. ", `Bearer realm="https://accounts.google.com/", error="invalid_token"`
	if reason == "CREDENTIALS_MISSING" {
		message, challenge = "Request is missing required authentication credential. ", `Bearer realm="https://accounts.google.com/"`
	}
	return &Error{
		Code:     http.StatusUnauthorized,
		Status:   "UNAUTHENTICATED",
		Message:  message + expected,
		reason:   reason,
		domain:   "googleapis.com",
		metadata: map[string]string{"service": api.service, "method": api.method},
		header:   http.Header{"Www-Authenticate": {challenge}},
	}
}

func insufficientScopes(api apiName) *Error {
	return &Error{
		Code:     http.StatusForbidden,
		Status:   "PERMISSION_DENIED",
		Message:  "Request had insufficient authentication scopes.",
		reason:   "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
		domain:   "googleapis.com",
		metadata: map[string]string{"service": api.service, "method": api.method},
		header:   http.Header{"Www-Authenticate": {`Bearer realm="https://accounts.google.com/", error="insufficient_scope", scope="` + scopeCloudPlatform + ` ` + scopeIAM + `"`}},
	}
}

// oauthError is an error in the shape of RFC 6749, section 5.2, which the Security
// Token Service and the OAuth 2.0 endpoints use.
type oauthError struct {
	Status      int    `json:"-"`
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
	URI         string `json:"error_uri,omitempty"`
	Subtype     string `json:"error_subtype,omitempty"`
	header      http.Header
}

func (e *oauthError) Error() string {
	return fmt.Sprintf("%d %s: %s", e.Status, e.Code, e.Description)
}

func oauthFailure(code, format string, args ...any) *oauthError {
	return &oauthError{Status: http.StatusBadRequest, Code: code, Description: fmt.Sprintf(format, args...)}
}

func writeError(w http.ResponseWriter, err error) int {
	var api *Error
	var oauth *oauthError
	switch {
	case errors.As(err, &api):
		maps.Copy(w.Header(), api.header)
		writeJSON(w, api.Code, api)
		return api.Code
	case errors.As(err, &oauth):
		maps.Copy(w.Header(), oauth.header)
		writeJSON(w, oauth.Status, oauth)
		return oauth.Status
	default:
		api = newAPIError(http.StatusInternalServerError, "Internal error encountered.")
		writeJSON(w, api.Code, api)
		return api.Code
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.Header().Set("Cache-Control", "private")
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, "fakegoogle: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // fails only if the caller has hung up
}
