package server

import (
	"cmp"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// response is the response to the request in progress on a connection, with the data
// that its metrics and its line of the access log need.
type response struct {
	http.ResponseWriter
	start   time.Time // when the request was passed to the handler
	metrics *endpointMetrics
	status  int
	level   slog.Level // of the line of the access log
	err     error
}

// WriteHeader implements [http.ResponseWriter].
func (w *response) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// writeEncoded sends a value.
func (w *response) writeEncoded(e encoded) {
	header := w.Header()
	header["Content-Type"] = e.fields[0:1:1]
	header["ETag"] = e.fields[1:2:2] // as Google writes it; Set would write Etag
	header["Content-Length"] = e.fields[2:3:3]
	_, _ = w.Write(e.body) // fails only if the client has hung up
}

// writeError sends what the table of errors has for err.
func (w *response) writeError(err error) {
	e := errorResponseFor(err)
	w.err, w.level = err, e.level
	if e.status == http.StatusServiceUnavailable {
		seconds := max(1, int(math.Ceil(e.retryAfter.Seconds())))
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
	}
	if e.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, HEAD")
	}
	if e.closeConn {
		w.Header().Set("Connection", "close")
	}
	http.Error(w, e.message, e.status)
}

// writeRedirect sends the client to the same path with a slash.
func (w *response) writeRedirect(r *http.Request) {
	// To the host that the request names: a client that has only the address cannot
	// resolve the name. A request of HTTP/1.0 need not name a host.
	location := "http://" + cmp.Or(r.Host, connOf(r.Context()).addresses.Local.String()) + r.URL.EscapedPath() + "/"
	if r.URL.RawQuery != "" {
		location += "?" + strings.ReplaceAll(r.URL.RawQuery, "#", "%23") // a bare # would begin a fragment
	}
	w.Header().Set("Location", location)
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(http.StatusMovedPermanently)
	_, _ = fmt.Fprintln(w, r.URL.EscapedPath()+"/")
}
