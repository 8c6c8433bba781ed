package daemon

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"gke-metadata-emulator/internal/logging"
)

// program is what all components of a running program share.
type program struct {
	runGroup
	log      *slog.Logger
	registry *prometheus.Registry
}

func newProgram(ctx context.Context, l Logging, stderr io.Writer) *program {
	log := logging.New(stderr, l.Level, l.Format)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// The Kubernetes client takes its logger from the context.
	return &program{newRunGroup(logr.NewContextWithSlogLogger(ctx, log)), log, registry}
}

// upstreamClient is the HTTP client for Google. Calls have their own deadlines; its
// time-out ends those of libraries that pass no context.
func (p *program) upstreamClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	p.onClose(client.CloseIdleConnections)
	return client
}
