package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/oauth2"
	"google.golang.org/api/googleapi"
)

// Kind is the kind of an [Error]. The set is closed: it labels metrics.
type Kind string

const (
	// NotLinked: the KSA is annotated with no GSA, and what was asked for needs one.
	NotLinked Kind = "not_linked"
	// Denied: the policy or Google's IAM says no. Asking again changes nothing.
	Denied Kind = "denied"
	// NotFound: the GSA does not exist.
	NotFound Kind = "not_found"
	// Invalid: what was asked for makes no sense to Google, like an unknown scope.
	Invalid Kind = "invalid"
	// Misconfigured: Google does not accept the credential that the operator set up.
	Misconfigured Kind = "misconfigured"
	// Unavailable: no answer now. Ask again.
	Unavailable Kind = "unavailable"
)

// Error says why there is no token, and what to do about it.
type Error struct {
	Kind       Kind
	Message    string        // for the caller's eyes; never holds a token
	RetryAfter time.Duration // when Google said so
	Err        error

	why    string    // what decided, for the audit log
	cached bool      // known before it was asked for
	forget bool      // costs nothing to find out again
	until  time.Time // believed no longer, where it is not zero
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// Permanent says that asking again changes nothing until somebody mends what the
// message names.
func (e *Error) Permanent() bool { return e.Kind != Unavailable }

// permanent says whether err is an [*Error] that is.
func permanent(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Permanent()
}

// forgettable says that err need not be remembered.
func forgettable(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.forget
}

// believedUntil is when err must be found out again, or zero.
func believedUntil(err error) time.Time {
	var e *Error
	if errors.As(err, &e) {
		return e.until
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

// after says when to ask again.
func after(err error, pause time.Duration) error {
	var e *Error
	if !errors.As(err, &e) || e.RetryAfter >= pause {
		return err
	}
	later := *e
	later.RetryAfter = pause
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

// googleError turns the failure of a call of Google's API clients into an [*Error].
// The task completes the sentence "Unable to …".
func googleError(task string, err error) *Error {
	var api *googleapi.Error
	if !errors.As(err, &api) {
		return unreachable(task, "IAM", err)
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
	return e
}

// errorReason is that of the google.rpc.ErrorInfo in an answer of Google's APIs, or
// empty; see AIP-193.
func errorReason(err error) string {
	var api *googleapi.Error
	if !errors.As(err, &api) {
		return ""
	}
	for _, detail := range api.Details {
		if info, ok := detail.(map[string]any); ok && info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo" {
			reason, _ := info["reason"].(string)
			return reason
		}
	}
	return ""
}

// oauthError turns the failure of a token endpoint into an [*Error]: RFC 6749
// section 5.2 has 400 and 401 for what is wrong for good.
func oauthError(task, service string, err error) *Error {
	var e *oauth2.RetrieveError
	if !errors.As(err, &e) || e.Response == nil {
		return unreachable(task, service, err)
	}
	reason := oauthReason(e)
	text := fmt.Sprintf("Unable to %s; %s returned %d %s", task, service, e.Response.StatusCode, http.StatusText(e.Response.StatusCode))
	for _, part := range []string{reason.Code, reason.Description} {
		if part != "" {
			text += ": " + part
		}
	}
	kind := Unavailable
	switch code := e.Response.StatusCode; {
	case reason.Code == "invalid_scope": // the caller chose the scopes
		kind = Invalid
	case code >= 400 && code < 500 && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout:
		kind = Misconfigured
	}
	return &Error{Kind: kind, Message: text, Err: err, RetryAfter: retryAfter(e.Response.Header)}
}

// oauthFields is why a token endpoint refuses, in the fields of RFC 6749.
type oauthFields struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

func oauthReason(e *oauth2.RetrieveError) oauthFields {
	fields := oauthFields{e.ErrorCode, e.ErrorDescription}
	if fields.Code == "" {
		// golang.org/x/oauth2/jwt leaves the body unread. Where it is something else
		// the status has to say it all.
		_ = json.Unmarshal(e.Body, &fields)
	}
	return fields
}

func unreachable(task, service string, err error) *Error {
	why := "it could not be reached"
	if errors.Is(err, context.DeadlineExceeded) {
		why = "it did not answer in time"
	}
	return &Error{Kind: Unavailable, Message: fmt.Sprintf("Unable to %s; %s did not help: %s", task, service, why), Err: err}
}

func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds >= 0 {
		return min(time.Duration(min(seconds, 1<<20))*time.Second, maxRetryAfter)
	}
	// The other form of RFC 9110 is a date, by the clock of who sent it.
	at, err := http.ParseTime(text)
	sent, unsent := http.ParseTime(h.Get("Date"))
	if err != nil || unsent != nil {
		return 0
	}
	return min(max(0, at.Sub(sent)), maxRetryAfter)
}
