package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

const (
	serviceName     = "gke-metadata-emulator"
	exportTimeout   = 10 * time.Second // of a batch
	shutdownTimeout = 5 * time.Second
)

// Tracing records spans and sends them to a collector. A nil pointer records none.
type Tracing struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// New sends traces to a collector by OTLP over HTTP, in batches of limited size; spans
// beyond the limit are dropped. The endpoint is the collector's base URL, like
// OTEL_EXPORTER_OTLP_ENDPOINT in OpenTelemetry's specification. An invalid endpoint is
// an error; an unreachable collector is not: each lost batch is logged.
func New(ctx context.Context, endpoint, node string, log *slog.Logger) (*Tracing, error) {
	full, err := url.JoinPath(endpoint, "v1/traces")
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	otlp, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(full), otlptracehttp.WithTimeout(exportTimeout))
	if err != nil {
		return nil, fmt.Errorf("tracing: %s: %w", full, err)
	}
	exporter := loggingExporter{otlp, log}
	service := resource.NewSchemaless(attribute.String("service.name", serviceName), attribute.String("k8s.node.name", node))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(service))
	return &Tracing{provider: provider, tracer: provider.Tracer(serviceName)}, nil
}

// loggingExporter logs failures to send, instead of OpenTelemetry's global handler.
type loggingExporter struct {
	sdk.SpanExporter
	log *slog.Logger
}

// ExportSpans implements [sdk.SpanExporter].
func (l loggingExporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if err := l.SpanExporter.ExportSpans(ctx, spans); err != nil {
		l.log.WarnContext(ctx, "traces could not be sent and are lost", "spans", len(spans), "error", err)
	}
	return nil
}

// Close sends the remaining spans, with a time-out of 5 s.
func (t *Tracing) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("tracing: %w", err)
	}
	return nil
}

// Transport records a span of each request that is a part of a mint. It adds no header
// of the trace to the request.
func (t *Tracing) Transport(next http.RoundTripper) http.RoundTripper {
	return otelhttp.NewTransport(next, otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator()),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method + " " + r.URL.Host }),
		// Only requests within the span of a mint.
		otelhttp.WithFilter(func(r *http.Request) bool { return trace.SpanContextFromContext(r.Context()).IsValid() }))
}

// Source records a span of each token that next mints. next must not be a cache, whose
// hits would be recorded as mints.
func (t *Tracing) Source(next tokens.Source) tokens.Source {
	return source{next, t.tracer}
}

type source struct {
	next   tokens.Source
	tracer trace.Tracer
}

// AccessToken implements [tokens.Source].
func (s source) AccessToken(ctx context.Context, w identity.Workload, scopes tokens.Scopes) (tokens.Token, error) {
	ctx, end := s.span(ctx, "mint access token", w, attribute.StringSlice("oauth.scopes", scopes))
	token, err := s.next.AccessToken(ctx, w, scopes)
	end(err)
	return token, err
}

// IDToken implements [tokens.Source].
func (s source) IDToken(ctx context.Context, w identity.Workload, r tokens.IDTokenRequest) (tokens.Token, error) {
	ctx, end := s.span(ctx, "mint ID token", w, attribute.String("oauth.audience", r.Audience))
	token, err := s.next.IDToken(ctx, w, r)
	end(err)
	return token, err
}

// span starts the span of a mint. The returned function ends it.
func (s source) span(ctx context.Context, name string, w identity.Workload, request attribute.KeyValue) (context.Context, func(error)) {
	ctx, span := s.tracer.Start(ctx, name, trace.WithAttributes(request,
		attribute.String("k8s.namespace.name", w.Pod.Namespace), attribute.String("k8s.pod.name", w.Pod.Name),
		attribute.String("k8s.serviceaccount.name", w.KSA.Name), attribute.String("gcp.service_account", w.GSA)))
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}
