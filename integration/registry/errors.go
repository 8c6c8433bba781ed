package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// refusal is an answer of Artifact Registry's: "Errors" of the OCI distribution
// specification.
type refusal struct {
	status  int
	code    string
	message string
	scope   string // for which a client without a token needs one
}

func (r *refusal) Error() string { return r.message }

func denied(a access) *refusal {
	return &refusal{status: http.StatusForbidden, code: "DENIED", message: fmt.Sprintf(
		"Permission %q denied on resource %q (or it may not exist)", a.permission, a.repository)}
}

func anonymous(a access) *refusal {
	return &refusal{status: http.StatusForbidden, code: "DENIED", message: fmt.Sprintf(
		"Unauthenticated request. Unauthenticated requests do not have permission %q on resource %q (or it may not exist)",
		a.permission, a.repository)}
}

// scopeMissing has the words of Google's other APIs.
func scopeMissing() *refusal {
	return &refusal{status: http.StatusForbidden, code: "DENIED", message: "Request had insufficient authentication scopes."}
}

func tokenInvalid() *refusal {
	return &refusal{status: http.StatusUnauthorized, code: "UNAUTHORIZED", message: "authentication failed"}
}

func tokenMissing() *refusal {
	return &refusal{status: http.StatusUnauthorized, code: "UNAUTHORIZED", message: "authentication required"}
}

func repositoryUnknown(a access) *refusal {
	return &refusal{status: http.StatusNotFound, code: "NAME_UNKNOWN", message: fmt.Sprintf("Repository %q not found", a.id)}
}

func nameInvalid() *refusal {
	return &refusal{
		status: http.StatusBadRequest, code: "NAME_INVALID",
		message: "Missing image name. Pushes should be of the form docker push HOST-NAME/PROJECT-ID/REPOSITORY/IMAGE",
	}
}

func methodUnknown() *refusal {
	return &refusal{status: http.StatusNotFound, code: "UNSUPPORTED", message: "The stand-in does not serve this method and path."}
}

func backendDown() *refusal {
	return &refusal{status: http.StatusServiceUnavailable, code: "UNAVAILABLE", message: "The service is currently unavailable."}
}

func writeError(w http.ResponseWriter, r *http.Request, refused *refusal) {
	if refused.status == http.StatusUnauthorized {
		challenge := `Bearer realm="https://` + r.Host + tokenPath + `",service="` + r.Host + `"`
		if refused.scope != "" {
			challenge += `,scope="` + refused.scope + `"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
	type item struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(refused.status)
	// A caller that hung up is its own problem.
	_ = json.NewEncoder(w).Encode(struct {
		Errors []item `json:"errors"`
	}{[]item{{refused.code, refused.message}}})
}
