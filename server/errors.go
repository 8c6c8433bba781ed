package server

import (
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

// refusal is an answer other than 200 that this package decides by itself.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return r.message }

var (
	errNotFound    = &refusal{http.StatusNotFound, "Not Found"}
	errNoFlavor    = &refusal{http.StatusForbidden, `Missing required header "Metadata-Flavor": "Google"`}
	errSource      = &refusal{http.StatusForbidden, "The metadata server answers this machine and private networks only"}
	errHost        = &refusal{http.StatusForbidden, "The Host of the request is not a name of the metadata server: use its IP address, localhost or metadata.google.internal"}
	errForwarded   = &refusal{http.StatusForbidden, "Calls with X-Forwarded-For header are not allowed by the metadata server"}
	errMethod      = &refusal{http.StatusMethodNotAllowed, "Method Not Allowed: the metadata server answers GET and HEAD"}
	errNoAudience  = &refusal{http.StatusBadRequest, "non-empty audience parameter required"}
	errCannotWait  = &refusal{http.StatusBadRequest, "Invalid Request: wait_for_change works on values and on directories with recursive=true, not on tokens"}
	errTimeout     = &refusal{http.StatusBadRequest, "Invalid Request: timeout_sec is a whole number of seconds, 0 or more"}
	errUnknownFact = &refusal{http.StatusServiceUnavailable, "This value has not been read from the API server yet: ask again"}
)

// answer is what the wire says of an error.
type answer struct {
	status     int
	message    string
	retryAfter time.Duration // with 503 only
	hangUp     bool          // the connection cannot be used again
	level      slog.Level
}

// answerTo is the one table from kinds of errors to answers. What somebody must
// mend is 400, 403 or 404, which no client asks again; what passes is 503, which
// they do. 502 and 504 are not used: Python does not ask again after them.
func answerTo(err error) answer {
	var own *refusal
	var who *identity.Error
	var token *tokens.Error
	switch {
	case errors.As(err, &own):
		return answer{status: own.status, message: own.message, level: slog.LevelDebug}
	case errors.As(err, &who):
		switch who.Reason {
		case identity.NotReady, identity.Unknown, identity.Ambiguous:
			return answer{status: http.StatusServiceUnavailable, message: who.Message, level: slog.LevelWarn}
		case identity.HostNetwork, identity.NotListed, identity.BadAnnotation, identity.NotAPod, identity.Unattested, identity.Mismatch:
			return answer{status: http.StatusForbidden, message: who.Message, level: slog.LevelWarn}
		case identity.Gone:
			return answer{status: http.StatusForbidden, message: who.Message, hangUp: true, level: slog.LevelInfo}
		}
	case errors.As(err, &token):
		switch token.Kind {
		case tokens.NotLinked:
			// 404 and nothing else: gcloud asks for an ID token before every access
			// token, and takes any other status for the end.
			return answer{status: http.StatusNotFound, message: token.Message, level: slog.LevelDebug}
		case tokens.Denied, tokens.Misconfigured:
			return answer{status: http.StatusForbidden, message: token.Message, level: slog.LevelWarn}
		case tokens.NotFound:
			return answer{status: http.StatusNotFound, message: token.Message, level: slog.LevelWarn}
		case tokens.Invalid:
			return answer{status: http.StatusBadRequest, message: token.Message, level: slog.LevelInfo}
		case tokens.Unavailable:
			return answer{status: http.StatusServiceUnavailable, message: token.Message, retryAfter: token.RetryAfter, level: slog.LevelWarn}
		}
	}
	return answer{status: http.StatusInternalServerError, message: "GKE Metadata Server: Internal Server Error", level: slog.LevelError}
}

// fail answers with an error.
func fail(to http.ResponseWriter, err error) {
	w, a := to.(*measured), answerTo(err)
	w.err, w.level = err, a.level
	if a.status == http.StatusServiceUnavailable {
		seconds := max(1, int(math.Ceil(a.retryAfter.Seconds())))
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
	}
	if a.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, HEAD")
	}
	if a.hangUp {
		w.Header().Set("Connection", "close")
	}
	http.Error(w, a.message, a.status)
}
