package server

import (
	"cmp"
	"net/http"
	"strconv"
	"time"
)

// waits says whether the answer is to be held until the value changes; see "View
// and query VM metadata" in Google's documentation.
func (q *request) waits() bool { return q.query.Get("wait_for_change") == "true" }

// await holds the answer until the value is another than the client has, its
// time-out has passed, or the server is about to stop. The client has the one
// whose ETag it names, or else the one of now.
func (q *request) await(w http.ResponseWriter) (encoded, error) {
	if q.of.listedOnly || q.of.directory && !q.recursive() {
		return encoded{}, errCannotWait
	}
	timeout, err := q.timeout()
	if err != nil {
		return encoded{}, err
	}
	// The connection is silent for as long as it takes. That the client hangs up
	// is still seen.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(time.Time{})
	defer func() { _ = control.SetWriteDeadline(time.Now().Add(writeTimeout)) }()
	for known := q.query.Get("last_etag"); ; {
		// Taken before the look: a change between the two must not be missed.
		who, facts := q.server.options.Identity.Changed(), q.server.options.FactsChanged()
		q.resolved = nil
		now, err := q.answer()
		known = cmp.Or(known, now.etag)
		if err != nil || now.etag != known {
			return now, err
		}
		select {
		case <-who:
		case <-facts:
		case <-timeout:
			return now, nil
		case <-q.conn.draining:
			w.Header().Set("Connection", "close")
			return now, nil
		case <-q.ctx.Done():
			return now, nil // nobody reads it
		}
	}
}

// timeout is the client's, or a channel that never answers.
func (q *request) timeout() (<-chan time.Time, error) {
	s := q.query.Get("timeout_sec")
	if s == "" {
		return nil, nil
	}
	seconds, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return nil, errTimeout
	}
	return time.After(time.Duration(seconds) * time.Second), nil
}
