package server

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// knownParameter reports whether the server reads a parameter. All others are ignored:
// libraries add some.
func knownParameter(name string) bool {
	switch name {
	case "alt", "audience", "format", "last_etag", "licenses", "recursive", "scopes", "timeout_sec", "wait_for_change":
		return true
	}
	return false
}

// parseQuery returns the parameters of a query. A known parameter that cannot be
// decoded is an error: [url.ParseQuery] drops it, and a token with the default scopes
// would be the response to a client that asks for fewer. The libraries for Node
// (google-auth-library 11.3) and PHP (google/auth 1.52) do not encode the audience.
func parseQuery(raw string) (url.Values, error) {
	values, err := url.ParseQuery(raw)
	if err == nil {
		return values, nil
	}
	for part := range strings.SplitSeq(raw, "&") {
		name, _, _ := strings.Cut(part, "=")
		name, _, _ = strings.Cut(name, ";")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		if _, err := url.ParseQuery(part); err != nil && knownParameter(name) {
			return nil, &refusal{http.StatusBadRequest, fmt.Sprintf(
				"Invalid Request: the part %q of the query cannot be decoded: percent-encode the value of %s (%% is %%25, ; is %%3B)", truncate(part), name)}
		}
	}
	if len(values) == 0 && len(raw) > 0 && tooManyParts(raw) {
		return nil, &refusal{http.StatusBadRequest, "Invalid Request: the query has too many parts"}
	}
	return values, nil
}

// tooManyParts reports whether a query has more parts than [url.ParseQuery] accepts, which
// then returns none of them.
func tooManyParts(raw string) bool {
	for part := range strings.SplitSeq(raw, "&") {
		if _, err := url.ParseQuery(part); err != nil {
			return false
		}
	}
	return true
}

// boolean reads a parameter as Compute Engine does, by the author of
// googleapis/google-auth-library-java#1450 (review comment, 2025).
func (q *request) boolean(name string) bool {
	value := q.query.Get(name)
	switch strings.ToLower(value) {
	case "y", "yes", "true":
		return true
	}
	return value == "1" || value == "on"
}
