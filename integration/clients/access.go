package clients

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// access is one line of the metadata server's access log.
type access struct {
	Message string  `json:"msg"`
	Method  string  `json:"method"`
	URI     string  `json:"uri"`
	Status  int     `json:"status"`
	Seconds float64 `json:"seconds"`
	Source  string  `json:"source"`
	Agent   string  `json:"agent"`
}

// accesses are the requests that a server has logged, in the order in which they
// were answered. A log with a token in it fails the test.
func accesses(t testing.TB, log string) []access {
	t.Helper()
	if secrets.MatchString(log) {
		t.Error("there is a token in the server's log")
	}
	var found []access
	for line := range strings.Lines(log) {
		var a access
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if a.Message == "request" {
			found = append(found, a)
		}
	}
	return found
}

// String is the request as the table has it.
func (a access) String() string {
	path, query, _ := strings.Cut(a.URI, "?")
	if decoded, err := url.PathUnescape(path); err == nil {
		path = decoded
	}
	if query != "" {
		if decoded, err := url.QueryUnescape(query); err == nil {
			query = decoded
		}
		query = "?" + strings.ReplaceAll(query, "https://www.googleapis.com/auth/", "")
	}
	text := strings.TrimPrefix(path, "/computeMetadata/v1/") + query
	if a.Method != "GET" {
		text = a.Method + " " + text
	}
	if a.Status != 200 {
		text += fmt.Sprintf(" (%d)", a.Status)
	}
	return text
}

// distinct are the requests in first-seen order, with e-mail addresses made one
// word. Those that come sometimes are at the end, whether they have come or not.
func distinct(requests []access, email string, sometimes []string) []string {
	var found []string
	for _, a := range requests {
		text := strings.ReplaceAll(a.String(), email, "EMAIL")
		if !slices.Contains(found, text) && !slices.Contains(sometimes, text) {
			found = append(found, text)
		}
	}
	for _, text := range sometimes {
		found = append(found, text+" (not every time)")
	}
	return found
}
