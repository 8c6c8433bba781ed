package server

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// done counts an answer and writes its line of the access log, at the level of
// its error or at debug.
func (s *Server) done(w *measured, r *http.Request, start time.Time) {
	took := time.Since(start)
	s.metrics.inFlight.Dec()
	w.count.observe(w.status, took)
	if !s.options.Log.Enabled(r.Context(), w.level) {
		return
	}
	line := []any{"method", r.Method, "uri", short(logged(r.URL)), "status", w.status, "seconds", took.Seconds(), "source", r.RemoteAddr, "agent", short(r.UserAgent())}
	if w.err != nil {
		line = append(line, "error", w.err.Error())
	}
	s.options.Log.Log(r.Context(), w.level, "request", line...)
}

// logged is a path and its query, without the values of parameters that we do not
// know: somebody may have put a token there.
func logged(u *url.URL) string {
	var b strings.Builder
	b.WriteString(u.EscapedPath())
	separator := byte('?')
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		switch name {
		case "":
			continue
		case "alt", "audience", "format", "last_etag", "licenses", "recursive", "scopes", "timeout_sec", "wait_for_change":
		default:
			pair = name + "=..."
		}
		b.WriteByte(separator)
		b.WriteString(pair)
		separator = '&'
	}
	return b.String()
}

// short is what a line has of a text that a caller chose: nobody may fill the
// node's disk with one header.
func short(s string) string {
	const most = 1024 // bytes; what Google's libraries send is far below
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
