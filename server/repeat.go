package server

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// maxRepeats bounds the answers that are kept for who asks again.
const maxRepeats = 256

// repeats are the answers of this second, by who asked and what, to the byte. Until the
// second is over who asks the same again has the same answer, without that anybody reads
// the request once more. No other answer would be given: neither the token's life, which
// is told in whole seconds, nor the date has changed, nor what the cluster says.
type repeats struct {
	now func() time.Time

	mu    sync.Mutex
	until time.Time // when all of these are over
	of    map[question]*repeat
}

type question struct {
	by      asker
	request string
}

// asker is all that decides which pod calls, beside what the cluster says: what the
// kernel knows of a connection, or the pod that this connection was found to come from.
type asker struct {
	provedUID string
	address   netip.Addr
	podUID    string
}

// repeat is an answer that may be given again while nobody would give another one.
type repeat struct {
	until           time.Time
	cluster, tokens <-chan struct{} // closed when they may say another thing; nil where they never will
	body            []byte
	count           *count

	answer []byte // all of it, as it stands on the wire
	last   bool   // the connection ends with it
}

// find returns the answer to the same request, or nil.
func (r *repeats) find(by asker, request []byte) *repeat {
	r.mu.Lock()
	again := r.of[question{by, string(request)}]
	r.mu.Unlock()
	if again == nil || !r.now().Before(again.until) || closed(again.cluster) || closed(again.tokens) {
		return nil
	}
	return again
}

// keep takes an answer that is being written.
func (r *repeats) keep(by asker, request []byte, again *repeat) {
	now := r.now()
	if !now.Before(again.until) {
		return
	}
	second := endOfSecond(now)
	if second.Before(again.until) {
		again.until = second
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !now.Before(r.until) {
		r.until, r.of = second, map[question]*repeat{}
	}
	if len(r.of) < maxRepeats || r.of[question{by, string(request)}] != nil {
		again.answer = bytes.Clone(again.answer) // what was written is net/http's
		r.of[question{by, string(request)}] = again
	}
}

// endOfSecond is when the clock's seconds change; by the time that has passed, so that a
// clock which is put back does not prolong it.
func endOfSecond(t time.Time) time.Time {
	return t.Add(time.Second - time.Duration(t.Nanosecond()))
}

// headEnd is where the head of a request ends, as net/http reads it; negative where it
// does not yet. A line may end without its carriage return (RFC 9112, section 2.2).
func headEnd(b []byte) int {
	for i := 0; ; i++ {
		line := bytes.IndexByte(b[i:], '\n')
		if line < 0 {
			return -1
		}
		i += line
		if rest := b[i+1:]; bytes.HasPrefix(rest, []byte("\n")) {
			return i + 2
		} else if bytes.HasPrefix(rest, []byte("\r\n")) {
			return i + 3
		}
	}
}

// written takes what stands on the wire, and says whether it is all of the answer.
func (again *repeat) written(b []byte) bool {
	head, found := bytes.CutSuffix(b, again.body)
	again.answer, again.last = b, bytes.Contains(head, []byte("\r\nConnection: close\r\n"))
	return found && bytes.HasPrefix(head, []byte("HTTP/1.1 200 OK\r\n"))
}

// mayRepeat says whether the answer to a request may be given again: it stands in
// no log, and the request is nothing but its head.
func (s *Server) mayRepeat(r *http.Request) bool {
	return !s.options.Log.Enabled(r.Context(), slog.LevelDebug) && r.Body == http.NoBody
}
