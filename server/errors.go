package server

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

// refusal is a response other than 200 that this package decides by itself.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return r.message }

var (
	errNotFound    = &refusal{http.StatusNotFound, "Not Found"}
	errNoFlavor    = &refusal{http.StatusForbidden, `Missing required header "Metadata-Flavor": "Google"`}
	errSource      = &refusal{http.StatusForbidden, "The metadata server serves only this machine and private networks"}
	errForwarded   = &refusal{http.StatusForbidden, "Calls with X-Forwarded-For header are not allowed by the metadata server"}
	errMethod      = &refusal{http.StatusMethodNotAllowed, "Method Not Allowed: the metadata server supports only GET and HEAD"}
	errNoAudience  = &refusal{http.StatusBadRequest, "non-empty audience parameter required"}
	errCannotWait  = &refusal{http.StatusBadRequest, "Invalid Request: wait_for_change supports values, and directories with recursive=true, but not tokens"}
	errTimeout     = &refusal{http.StatusBadRequest, "Invalid Request: timeout_sec must be a whole number of seconds, 0 or more"}
	errScope       = &refusal{http.StatusBadRequest, "Invalid Request: a scope consists of printable ASCII characters without spaces and quotation marks"}
	errUnknownFact = &refusal{http.StatusServiceUnavailable, "This value has not been read from the API server yet: retry in a second"}
)

// errRedirect redirects the client to the directory's own name, which ends in a slash.
var errRedirect = errors.New("redirect to the directory")

// errorResponse is the response to an error.
type errorResponse struct {
	status     int
	message    string
	retryAfter time.Duration // with 503 only; at least 1 s is sent
	closeConn  bool          // the connection must not be used for another request
	level      slog.Level    // of the line of the access log
}

// errorResponseFor is the one table from kinds of errors to responses. A permanent
// problem is 400, 403 or 404, which no client retries. A transient problem is 503, which
// clients retry. 502 and 504 are not used: Python does not retry them.
func errorResponseFor(err error) errorResponse {
	var refused *refusal
	var identityError *identity.Error
	var tokenError *tokens.Error
	switch {
	case errors.As(err, &refused):
		return errorResponse{status: refused.status, message: refused.message, level: slog.LevelDebug}
	case errors.As(err, &identityError):
		switch identityError.Reason {
		case identity.NotReady, identity.Unknown, identity.Ambiguous:
			return errorResponse{status: http.StatusServiceUnavailable, message: identityError.Message, level: slog.LevelWarn}
		case identity.Unattested:
			// The kernel's record is taken when a connection is accepted, and can be missing
			// for one that was opened while the daemon started. A new one gets a new record.
			return errorResponse{status: http.StatusServiceUnavailable, message: identityError.Message, closeConn: true, level: slog.LevelWarn}
		case identity.HostNetwork, identity.NotListed, identity.BadAnnotation, identity.NotAPod, identity.Mismatch:
			return errorResponse{status: http.StatusForbidden, message: identityError.Message, level: slog.LevelWarn}
		case identity.Gone:
			return errorResponse{status: http.StatusForbidden, message: identityError.Message, closeConn: true, level: slog.LevelInfo}
		}
	case errors.As(err, &tokenError):
		switch tokenError.Kind {
		case tokens.NotLinked:
			// 404 and nothing else: gcloud requests an ID token before every access token,
			// and any other status ends it.
			return errorResponse{status: http.StatusNotFound, message: tokenError.Message, level: slog.LevelDebug}
		case tokens.Denied, tokens.Misconfigured:
			return errorResponse{status: http.StatusForbidden, message: tokenError.Message, level: slog.LevelWarn}
		case tokens.NotFound:
			return errorResponse{status: http.StatusNotFound, message: tokenError.Message, level: slog.LevelWarn}
		case tokens.Invalid:
			return errorResponse{status: http.StatusBadRequest, message: tokenError.Message, level: slog.LevelInfo}
		case tokens.Unavailable:
			return errorResponse{status: http.StatusServiceUnavailable, message: tokenError.Message, retryAfter: tokenError.RetryAfter, level: slog.LevelWarn}
		}
	}
	return errorResponse{status: http.StatusInternalServerError, message: "GKE Metadata Server: Internal Server Error", level: slog.LevelError}
}
