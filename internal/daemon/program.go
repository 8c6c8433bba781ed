package daemon

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/logging"
	"gke-metadata-emulator/tokens"
)

// program is what all components of a running program share.
type program struct {
	runGroup
	log      *slog.Logger
	registry *prometheus.Registry
}

func newProgram(ctx context.Context, l config.Logging, stderr io.Writer) *program {
	log := logging.New(stderr, l.Level, l.Format)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// The Kubernetes client takes its logger from the context.
	return &program{newRunGroup(logr.NewContextWithSlogLogger(ctx, log)), log, registry}
}

// upstreamClient is the HTTP client for Google. Calls have their own deadlines; its
// time-out ends those of libraries that pass no context.
func (p *program) upstreamClient() *http.Client {
	client := newGoogleClient(20 * time.Second)
	p.onClose(client.CloseIdleConnections)
	return client
}

// newGoogleClient returns an HTTP client for Google, whose errors name a proxy that refuses.
func newGoogleClient(timeout time.Duration) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16
	transport.OnProxyConnectResponse = tokens.CheckProxyResponse
	return &http.Client{Transport: transport, Timeout: timeout}
}

// runGroup runs components until one fails or the context ends.
type runGroup struct {
	group    *errgroup.Group
	ctx      context.Context // of the components
	stop     context.CancelFunc
	closures *[]func()
}

func newRunGroup(ctx context.Context) runGroup {
	ctx, stop := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	return runGroup{group, ctx, stop, new([]func())}
}

// run starts a component. If it fails, the others are stopped.
func (g runGroup) run(component func(context.Context) error) {
	g.group.Go(func() error { return component(g.ctx) })
}

// onClose calls f when all components have ended, before the functions of earlier
// calls: a component is closed before those that it was made of.
func (g runGroup) onClose(f func()) { *g.closures = append(*g.closures, f) }

// wait returns when all components have ended.
func (g runGroup) wait() error { return g.group.Wait() }

// close stops the components, waits for them, and calls the functions of onClose.
func (g runGroup) close() {
	g.stop()
	_ = g.group.Wait()
	for _, f := range slices.Backward(*g.closures) {
		f()
	}
}
