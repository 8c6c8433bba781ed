package registry

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"time"
)

// Record is one request and who made it. There is no token in it.
type Record struct {
	Time       time.Time
	Principal  string        // like serviceAccount:EMAIL; empty if the token was refused
	Through    []string      // how the token came about, who asked for it first
	KSA        string        // NAMESPACE/NAME, of the Kubernetes token at the beginning
	Remaining  time.Duration // of the access token's life
	Method     string
	Path       string
	Repository string // projects/P/locations/L/repositories/R; empty where none is meant
	Status     int
}

// maxRecords is how many requests are remembered.
const maxRecords = 5000

// Records are the latest requests, the oldest first.
func (s *Server) Records() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.records)
}

func (r *Record) by(c *caller) {
	r.Principal, r.Through, r.KSA, r.Remaining = c.Principal, c.Through, c.KSA, c.ExpiresAt.Sub(r.Time)
}

func (s *Server) add(ctx context.Context, r Record) {
	s.log.LogAttrs(ctx, slog.LevelInfo, "request",
		slog.String("principal", r.Principal), slog.String("ksa", r.KSA), slog.Duration("remaining", r.Remaining.Truncate(time.Second)),
		slog.String("method", r.Method), slog.String("path", r.Path), slog.Int("status", r.Status))
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.records) == maxRecords {
		s.records = slices.Delete(s.records, 0, 1)
	}
	s.records = append(s.records, r)
}

// recorder keeps what a record needs of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}
