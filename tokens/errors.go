package tokens

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/oauth2"
	"google.golang.org/api/googleapi"
)

// Kind is the kind of an [Error]. The set is closed: it labels metrics.
type Kind string

const (
	// NotLinked: the KSA is annotated with no GSA, and the request needs one.
	NotLinked Kind = "not_linked"
	// Denied: the policy or Google's IAM refuses. A retry does not help.
	Denied Kind = "denied"
	// NotFound: the GSA does not exist.
	NotFound Kind = "not_found"
	// Invalid: Google does not understand the request, for example an unknown scope.
	Invalid Kind = "invalid"
	// Misconfigured: Google does not accept the credential that the operator set up.
	Misconfigured Kind = "misconfigured"
	// Unavailable: there is no answer now. A retry can help.
	Unavailable Kind = "unavailable"
)

// Error explains why a token is missing, and the remedy.
type Error struct {
	Kind       Kind
	Message    string        // for the caller; never holds a token
	Detail     string        // the network's own error, for logs and events; never holds a token
	RetryAfter time.Duration // 0 if it is not known
	Err        error

	decision   string    // the policy's reasons, for the audit log
	cached     bool      // known before the request
	uncached   bool      // not worth caching, as the check costs nothing
	validUntil time.Time // the end of its cache TTL; zero: refusalTTL
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// Permanent reports whether a retry is pointless until the problem that the message names
// is fixed.
func (e *Error) Permanent() bool { return e.Kind != Unavailable }

// permanent reports whether err is a permanent [*Error].
func permanent(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Permanent()
}

// uncached reports whether err is not worth caching.
func uncached(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.uncached
}

// validUntil is the end of err's own cache TTL, or zero.
func validUntil(err error) time.Time {
	var e *Error
	if errors.As(err, &e) {
		return e.validUntil
	}
	return time.Time{}
}

func retryAfterOf(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

// withRetryAfter raises RetryAfter to delay.
func withRetryAfter(err error, delay time.Duration) error {
	var e *Error
	if !errors.As(err, &e) || e.RetryAfter >= delay {
		return err
	}
	later := *e
	later.RetryAfter = delay
	return &later
}

// kindOf is the kind of err, for metrics.
func kindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Unavailable
}

// googleError turns the error of one of Google's API clients into an [*Error].
// The task completes the sentence "Unable to …".
func googleError(task string, request refusedRequest, err error) *Error {
	var api *googleapi.Error
	if !errors.As(err, &api) {
		return unreachable(task, iamService, err)
	}
	text := fmt.Sprintf("Unable to %s; IAM returned %d %s: %s", task, api.Code, http.StatusText(api.Code), api.Message)
	e := &Error{Kind: Unavailable, Message: text, Err: err, RetryAfter: retryAfter(api.Header)}
	switch api.Code {
	case http.StatusBadRequest:
		e.Kind = Invalid
	case http.StatusUnauthorized:
		e.Kind = Misconfigured
	case http.StatusForbidden:
		e.Kind = Denied
	case http.StatusNotFound:
		e.Kind = NotFound
	}
	return withRemedy(e, refusal{request, apiAnswer(iamService, api)})
}

// wordInCommand matches the metadata that remedies use in shell commands. Somebody who
// inspects the TLS connections could have written it.
var wordInCommand = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]*$`)

// apiAnswer reads a response in the form of Google's APIs (AIP-193).
func apiAnswer(service string, e *googleapi.Error) googleAnswer {
	a := googleAnswer{service: service, status: e.Code, text: e.Message}
	for _, detail := range e.Details {
		info, ok := detail.(map[string]any)
		if !ok || info["@type"] != "type.googleapis.com/google.rpc.ErrorInfo" {
			continue
		}
		a.reason, _ = info["reason"].(string)
		a.metadata = map[string]string{}
		metadata, _ := info["metadata"].(map[string]any)
		for name, value := range metadata {
			if text, _ := value.(string); wordInCommand.MatchString(text) {
				a.metadata[name] = text
			}
		}
	}
	return a
}

// oauthError turns the error of a token endpoint into an [*Error]. RFC 6749 section 5.2
// uses 400 and 401 for permanent errors.
func oauthError(task, service string, request refusedRequest, err error) *Error {
	var e *oauth2.RetrieveError
	if !errors.As(err, &e) || e.Response == nil {
		return unreachable(task, service, err)
	}
	answer := oauthAnswer(service, e)
	text := fmt.Sprintf("Unable to %s; %s returned %d %s", task, service, answer.status, http.StatusText(answer.status))
	for _, part := range []string{answer.code, answer.text} {
		if part != "" {
			text += ": " + part
		}
	}
	kind := Unavailable
	switch code := answer.status; {
	case answer.code == "invalid_scope": // the caller chose the scopes
		kind = Invalid
	case code >= 400 && code < 500 && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout:
		kind = Misconfigured
	}
	return withRemedy(&Error{Kind: kind, Message: text, Err: err, RetryAfter: retryAfter(e.Response.Header)}, refusal{request, answer})
}

// oauthAnswer reads the response of a token endpoint. Its form is that of RFC 6749, or
// that of Google's APIs if the request does not reach the endpoint itself, for example
// because its API is disabled.
func oauthAnswer(service string, e *oauth2.RetrieveError) googleAnswer {
	a := googleAnswer{service: service, status: e.Response.StatusCode, code: e.ErrorCode, text: e.ErrorDescription}
	if a.code != "" {
		return a
	}
	// golang.org/x/oauth2/jwt does not parse the body. If it is not JSON, the status has to
	// be enough.
	var fields struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(e.Body, &fields) == nil {
		a.code, a.text = fields.Code, fields.Description
		return a
	}
	var api *googleapi.Error
	response := &http.Response{StatusCode: a.status, Header: e.Response.Header, Body: io.NopCloser(bytes.NewReader(e.Body))}
	if errors.As(googleapi.CheckResponse(response), &api) {
		return apiAnswer(service, api)
	}
	return a
}

// retryAfter parses the Retry-After header; 0 if there is none.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds >= 0 {
		return min(time.Duration(min(seconds, 1<<20))*time.Second, maxRetryAfter)
	}
	// RFC 9110 also allows a date, which is by the sender's clock.
	at, err := http.ParseTime(text)
	sent, dateErr := http.ParseTime(h.Get("Date"))
	if err != nil || dateErr != nil {
		return 0
	}
	return min(max(0, at.Sub(sent)), maxRetryAfter)
}
