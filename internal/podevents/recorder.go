package podevents

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
)

const (
	// component is the source of the events; an admission policy requires the name.
	component = "gke-metadata-emulator"
	// writeTimeout is the deadline of one request to the API server.
	writeTimeout = 10 * time.Second
	// Each pod gets up to podBurst events at once, then one every five minutes.
	podBurst = 10
	podRate  = 1. / 300 // events a second
)

// eventWriter is the part of the API server that stores events (core/v1).
type eventWriter interface {
	CreateEvent(ctx context.Context, event *corev1.Event) (*corev1.Event, error)
	UpdateEvent(ctx context.Context, event *corev1.Event) (*corev1.Event, error)
	PatchEvent(ctx context.Context, event *corev1.Event, patch []byte) (*corev1.Event, error)
}

// sink writes events to the API server until ctx ends.
type sink struct {
	ctx     context.Context // client-go's recorder passes none
	client  eventWriter
	results *prometheus.CounterVec
}

// Create implements [record.EventSink].
func (s sink) Create(event *corev1.Event) (*corev1.Event, error) {
	return s.write(func(ctx context.Context) (*corev1.Event, error) {
		return s.client.CreateEvent(ctx, event)
	})
}

// Update implements [record.EventSink].
func (s sink) Update(event *corev1.Event) (*corev1.Event, error) {
	return s.write(func(ctx context.Context) (*corev1.Event, error) {
		return s.client.UpdateEvent(ctx, event)
	})
}

// Patch implements [record.EventSink].
func (s sink) Patch(event *corev1.Event, patch []byte) (*corev1.Event, error) {
	return s.write(func(ctx context.Context) (*corev1.Event, error) {
		return s.client.PatchEvent(ctx, event, patch)
	})
}

func (s sink) write(request func(context.Context) (*corev1.Event, error)) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(s.ctx, writeTimeout)
	defer cancel()
	written, err := request(ctx)
	result := "written"
	if err != nil {
		result = "failed"
	}
	s.results.WithLabelValues(result).Inc()
	return written, err
}
