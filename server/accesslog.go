package server

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gke-metadata-emulator/tokens"
)

// record counts a response and logs it, at the level of its error or at debug.
func (s *Server) record(w *response, r *http.Request) {
	elapsed := time.Since(w.start)
	s.metrics.inFlight.Dec()
	w.metrics.observe(w.status, elapsed)
	if !s.options.Log.Enabled(r.Context(), w.level) {
		return
	}
	attributes := []any{"method", r.Method, "uri", truncate(loggedURI(r.URL)), "status", w.status, "seconds", elapsed.Seconds(), "source", r.RemoteAddr, "agent", truncate(r.UserAgent())}
	if w.err != nil {
		attributes = append(attributes, "error", truncateTo(maxErrorText, w.err.Error()))
		if e, ok := errors.AsType[*tokens.Error](w.err); ok && e.Detail != "" {
			attributes = append(attributes, "cause", truncate(e.Detail))
		}
	}
	s.options.Log.Log(r.Context(), w.level, "request", attributes...)
}

// loggedURI is a path and its query without the values of unknown parameters: a
// client might have put a token there.
func loggedURI(u *url.URL) string {
	var b strings.Builder
	b.WriteString(u.EscapedPath())
	separator := byte('?')
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if name == "" {
			continue
		}
		if !knownParameter(name) {
			pair = name + "=..."
		}
		b.WriteByte(separator)
		b.WriteString(pair)
		separator = '&'
	}
	return b.String()
}

// The longest texts of a line of the log, in bytes.
const (
	maxCallerText = 1024 // that the caller chose; Google's libraries send far less
	maxErrorText  = 4096 // of an error, which can have several commands
)

// truncate bounds a text that the caller chose: no pod can fill the node's disk with
// one header.
func truncate(s string) string { return truncateTo(maxCallerText, s) }

func truncateTo(maxBytes int, s string) string {
	if len(s) <= maxBytes {
		return s
	}
	return s[:maxBytes] + "..."
}
