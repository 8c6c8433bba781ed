package server

import (
	"bytes"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// maxRepeats bounds the answers that are kept for who asks again.
const maxRepeats = 256

// repeats are the answers of this second, by what was asked, to the byte, and the pod
// that did. Until its second is over the same pod gets the same for the same, without
// that anybody reads the request once more. No other answer would be given: neither
// the token's life, which is told in whole seconds, nor the date has changed, nor what
// the cluster says.
type repeats struct {
	now func() time.Time

	mu    sync.Mutex
	until time.Time                     // when all of these are over
	of    map[string]map[string]*repeat // by the request and the UID of the pod
	held  int
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

// asked says whether anybody has asked for the same in this second.
func (r *repeats) asked(request []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[string(request)] != nil
}

// find returns the answer that the pod has had to the same request, or nil.
func (r *repeats) find(request []byte, podUID string) *repeat {
	r.mu.Lock()
	again := r.of[string(request)][podUID]
	r.mu.Unlock()
	if again == nil || !r.now().Before(again.until) || closed(again.cluster) || closed(again.tokens) {
		return nil
	}
	return again
}

// keep takes an answer that is being written.
func (r *repeats) keep(request []byte, podUID string, again *repeat) {
	now := r.now()
	if podUID == "" || !now.Before(again.until) {
		return
	}
	if second := endOfSecond(now); second.Before(again.until) {
		again.until = second
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !now.Before(r.until) {
		r.until, r.of, r.held = endOfSecond(now), map[string]map[string]*repeat{}, 0
	}
	pods := r.of[string(request)]
	if r.held >= maxRepeats && pods[podUID] == nil {
		return
	}
	if pods == nil {
		pods = map[string]*repeat{}
		r.of[string(request)] = pods
	}
	if pods[podUID] == nil {
		r.held++
	}
	pods[podUID] = again
}

func endOfSecond(t time.Time) time.Time { return t.Truncate(time.Second).Add(time.Second) }

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
	again.answer, again.last = bytes.Clone(b), bytes.Contains(head, []byte("\r\nConnection: close\r\n"))
	return found && bytes.HasPrefix(head, []byte("HTTP/1.1 200 OK\r\n"))
}

// mayRepeat says whether the answer to a request may be given again: it stands in
// no log, and the request is nothing but its head.
func (s *Server) mayRepeat(r *http.Request) bool {
	return !s.options.Log.Enabled(r.Context(), slog.LevelDebug) && r.Body == http.NoBody
}
