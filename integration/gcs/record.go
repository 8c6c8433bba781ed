package gcs

import (
	"context"
	"encoding/json"
	"gke-metadata-emulator/integration/internal/standin"
	"log/slog"
	"time"
)

// Record is one request and its caller. It contains no token.
type Record struct {
	Time      time.Time
	Principal string        // like serviceAccount:EMAIL; empty if the token was refused
	Through   []string      // delegate chain of the token, the first caller first
	KSA       string        // NAMESPACE/NAME, of the Kubernetes token at the beginning
	Remaining time.Duration // lifetime of the token or the signed URL
	Signed    bool          // by its URL; there is no token, and none that it came through
	Method    string
	Bucket    string
	Object    string // empty for a request about a bucket
	Status    int
}

// maxRecords is how many requests are remembered.
const maxRecords = 1000

// Records are the latest requests, the oldest first.
func (s *Server) Records() []Record { return s.records.All() }

func (s *Server) add(ctx context.Context, r Record) {
	s.log.LogAttrs(ctx, slog.LevelInfo, "request",
		slog.String("principal", r.Principal), slog.String("ksa", r.KSA), slog.Duration("remaining", r.Remaining.Truncate(time.Second)),
		slog.Bool("signed", r.Signed),
		slog.String("method", r.Method), slog.String("bucket", r.Bucket), slog.String("object", r.Object), slog.Int("status", r.Status))
	s.records.Add(r)
}

// recorder keeps the parts of an answer that a record needs.
type recorder struct {
	standin.Recorder
	keep bool // whether to keep the beginning of the body
	body []byte
}

// maxKept is above the size of any object resource.
const maxKept = 64 << 10

func (r *recorder) Write(b []byte) (int, error) {
	if r.keep && len(r.body) < maxKept {
		r.body = append(r.body, b[:min(len(b), maxKept-len(r.body))]...)
	}
	return r.Recorder.Write(b)
}

// objectName is the name in the answer to an upload: a client can put the name in the body
// instead of the URL, and fake-gcs-server does not escape an ampersand in the URL of a
// resumable upload.
func (r *recorder) objectName() string {
	var object struct {
		Name string `json:"name"`
	}
	if !r.keep || json.Unmarshal(r.body, &object) != nil {
		return ""
	}
	return object.Name
}
