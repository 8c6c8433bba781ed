package standin

import (
	"net/http"
	"slices"
	"sync"
)

// Records are the latest records of a stand-in, at most a number of them.
type Records[R any] struct {
	limit int

	mu      sync.Mutex
	records []R
}

// NewRecords remembers limit records.
func NewRecords[R any](limit int) *Records[R] { return &Records[R]{limit: limit} }

// Add adds a record, and forgets the oldest one if there are too many.
func (l *Records[R]) Add(r R) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.records) == l.limit {
		l.records = slices.Delete(l.records, 0, 1)
	}
	l.records = append(l.records, r)
}

// All returns the records, the oldest first.
func (l *Records[R]) All() []R {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.records)
}

// Recorder remembers the status of an answer.
type Recorder struct {
	http.ResponseWriter
	Status int // 0 until there is one
}

// WriteHeader implements [http.ResponseWriter].
func (r *Recorder) WriteHeader(status int) {
	if r.Status == 0 {
		r.Status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (r *Recorder) Write(b []byte) (int, error) {
	if r.Status == 0 {
		r.Status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}
