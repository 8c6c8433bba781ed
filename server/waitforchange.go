package server

import (
	"cmp"
	"net/http"
	"strconv"
	"time"
)

// waitsForChange reports whether the response is to be delayed until the value
// changes; see "View and query VM metadata" in Google's documentation.
func (q *request) waitsForChange() bool { return q.boolean("wait_for_change") }

// awaitChange returns the value when it differs from the one that the client has,
// when the client's timeout has passed, or when the server begins to stop. The client
// names the value that it has by its ETag; the default is the current value.
func (q *request) awaitChange(w http.ResponseWriter) (encoded, error) {
	if q.endpoint.token || q.endpoint.directory && !q.recursive() {
		return encoded{}, errCannotWait
	}
	timeout, err := q.timeout()
	if err != nil {
		return encoded{}, err
	}
	// The connection is idle during the wait. net/http still notices when the client
	// hangs up.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(time.Time{})
	defer func() { _ = control.SetWriteDeadline(time.Now().Add(writeTimeout)) }()
	for lastETag := q.query.Get("last_etag"); ; {
		// Taken before the lookup, so a change during the lookup is not missed.
		identityChanged, factsChanged := q.server.options.Identity.Changed(), q.server.options.FactsChanged()
		q.caller = nil
		current, err := q.encoded()
		lastETag = cmp.Or(lastETag, current.etag)
		if err != nil || current.etag != lastETag {
			return current, err
		}
		select {
		case <-identityChanged:
		case <-factsChanged:
		case <-timeout:
			return current, nil
		case <-q.conn.draining:
			w.Header().Set("Connection", "close")
			return current, nil
		case <-q.ctx.Done():
			return current, nil // the client has hung up
		}
	}
}

// timeout fires after the client's timeout_sec. Without that parameter it is nil.
func (q *request) timeout() (<-chan time.Time, error) {
	parameter := q.query.Get("timeout_sec")
	if parameter == "" {
		return nil, nil
	}
	seconds, err := strconv.ParseUint(parameter, 10, 31)
	if err != nil {
		return nil, errTimeout
	}
	return time.After(time.Duration(seconds) * time.Second), nil
}
