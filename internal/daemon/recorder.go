package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"

	"gke-metadata-emulator/server"
	"gke-metadata-emulator/tokens"
)

const (
	// eventComponent is who says it; an admission policy knows the name.
	eventComponent = "gke-metadata-emulator"
	eventTimeout   = 10 * time.Second
	// Of each pod: as many events at once, and one each five minutes from then on.
	eventBurst = 10
	eventRate  = 1. / 300
)

// eventWriter is the API server, which keeps events (core/v1).
type eventWriter interface {
	CreateEvent(ctx context.Context, event *corev1.Event) (*corev1.Event, error)
	UpdateEvent(ctx context.Context, event *corev1.Event) (*corev1.Event, error)
	PatchEvent(ctx context.Context, event *corev1.Event, patch []byte) (*corev1.Event, error)
}

// eventSink writes events to the API server, until ctx ends.
type eventSink struct {
	ctx     context.Context // what calls it has none to give
	client  eventWriter
	results *prometheus.CounterVec
}

func newEventResults(registry prometheus.Registerer) *prometheus.CounterVec {
	results := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_events_total",
		Help: "Events on pods, which say why there is no token, by result: written, or failed (it is tried again for two minutes).",
	}, []string{"result"})
	registry.MustRegister(results)
	return results
}

// Create implements [record.EventSink].
func (s eventSink) Create(event *corev1.Event) (*corev1.Event, error) {
	return s.write(func(ctx context.Context) (*corev1.Event, error) {
		return s.client.CreateEvent(ctx, event)
	})
}

// Update implements [record.EventSink].
func (s eventSink) Update(event *corev1.Event) (*corev1.Event, error) {
	return s.write(func(ctx context.Context) (*corev1.Event, error) {
		return s.client.UpdateEvent(ctx, event)
	})
}

// Patch implements [record.EventSink].
func (s eventSink) Patch(event *corev1.Event, data []byte) (*corev1.Event, error) {
	return s.write(func(ctx context.Context) (*corev1.Event, error) {
		return s.client.PatchEvent(ctx, event, data)
	})
}

func (s eventSink) write(f func(context.Context) (*corev1.Event, error)) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(s.ctx, eventTimeout)
	defer cancel()
	written, err := f(ctx)
	result := "written"
	if err != nil {
		result = "failed"
	}
	s.results.WithLabelValues(result).Inc()
	return written, err
}

// tellPods makes what pods are answered with tell on them why they are refused,
// where --events says so.
func (s *Serve) tellPods(g group, client eventWriter, registry prometheus.Registerer, log *slog.Logger, who server.Identity, source tokens.Source) (server.Identity, tokens.Source, error) {
	results := newEventResults(registry)
	if !s.Events {
		return who, source, nil
	}
	broadcaster := record.NewBroadcaster(record.WithContext(g.ctx), record.WithCorrelatorOptions(record.CorrelatorOptions{BurstSize: eventBurst, QPS: eventRate}))
	broadcaster.StartRecordingToSink(eventSink{g.ctx, client, results})
	recorder := broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: eventComponent, Host: s.NodeName}).WithLogger(logr.FromSlogHandler(log.Handler()))
	told, err := newRefusals(recorder, time.Now)
	return toldIdentity{who, told}, toldTokens{source, told}, err
}
