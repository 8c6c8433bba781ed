package registry

import (
	"context"
	"gke-metadata-emulator/integration/internal/standin"
	"log/slog"
	"time"
)

// Record is one request and its caller. It contains no token.
type Record struct {
	Time       time.Time
	Principal  string        // like serviceAccount:EMAIL; empty if the token was refused
	Through    []string      // delegate chain of the token, the first caller first
	KSA        string        // NAMESPACE/NAME, of the Kubernetes token at the beginning
	Remaining  time.Duration // lifetime of the access token
	Method     string
	Path       string
	Repository string // projects/P/locations/L/repositories/R; empty if the request is for none
	Status     int
}

// maxRecords is how many requests are remembered.
const maxRecords = 5000

// Records are the latest requests, the oldest first.
func (s *Server) Records() []Record { return s.records.All() }

func (r *Record) by(c *standin.Caller) {
	r.Principal, r.Through, r.KSA, r.Remaining = c.Principal, c.Through, c.KSA, c.ExpiresAt.Sub(r.Time)
}

func (s *Server) add(ctx context.Context, r Record) {
	s.log.LogAttrs(ctx, slog.LevelInfo, "request",
		slog.String("principal", r.Principal), slog.String("ksa", r.KSA), slog.Duration("remaining", r.Remaining.Truncate(time.Second)),
		slog.String("method", r.Method), slog.String("path", r.Path), slog.Int("status", r.Status))
	s.records.Add(r)
}
