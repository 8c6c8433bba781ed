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
	name        = "gke-metadata-emulator"
	sendWithin  = 10 * time.Second // a batch
	closeWithin = 5 * time.Second
)

// Tracing makes the spans. The zero value of a pointer, nil, makes none.
type Tracing struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// New sends traces to a collector by OTLP over HTTP, in batches of bounded size;
// what does not fit is dropped. The endpoint is the collector's base URL, like
// OTEL_EXPORTER_OTLP_ENDPOINT in OpenTelemetry's specification. That it is away is
// logged and no error.
func New(ctx context.Context, endpoint, node string, log *slog.Logger) (*Tracing, error) {
	full, err := url.JoinPath(endpoint, "v1/traces")
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	sending, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(full), otlptracehttp.WithTimeout(sendWithin))
	if err != nil {
		return nil, fmt.Errorf("tracing: %s: %w", full, err)
	}
	exporter := logged{sending, log}
	of := resource.NewSchemaless(attribute.String("service.name", name), attribute.String("k8s.node.name", node))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(of))
	return &Tracing{provider: provider, tracer: provider.Tracer(name)}, nil
}

// logged says what could not be sent in our own log.
type logged struct {
	sdk.SpanExporter
	log *slog.Logger
}

// ExportSpans implements [sdk.SpanExporter].
func (l logged) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if err := l.SpanExporter.ExportSpans(ctx, spans); err != nil {
		l.log.WarnContext(ctx, "traces could not be sent and are lost", "spans", len(spans), "error", err)
	}
	return nil
}

// Close sends what has not been sent yet, within seconds.
func (t *Tracing) Close() error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("tracing: %w", err)
	}
	return nil
}

// Transport makes a span of each request. It sends Google nothing of the trace.
func (t *Tracing) Transport(next http.RoundTripper) http.RoundTripper {
	if t == nil {
		return next
	}
	return otelhttp.NewTransport(next, otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator()),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method + " " + r.URL.Host }),
		// Part of a mint, or of nobody's interest.
		otelhttp.WithFilter(func(r *http.Request) bool { return trace.SpanContextFromContext(r.Context()).IsValid() }))
}

// Source makes a span of each token that it gets of next: next is what mints, not
// a cache.
func (t *Tracing) Source(next tokens.Source) tokens.Source {
	if t == nil {
		return next
	}
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

func (s source) span(ctx context.Context, name string, w identity.Workload, of attribute.KeyValue) (context.Context, func(error)) {
	ctx, span := s.tracer.Start(ctx, name, trace.WithAttributes(of,
		attribute.String("k8s.namespace.name", w.Pod.Namespace), attribute.String("k8s.pod.name", w.Pod.Name),
		attribute.String("k8s.serviceaccount.name", w.KSA.Name), attribute.String("gcp.service_account", w.GSA)))
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}
