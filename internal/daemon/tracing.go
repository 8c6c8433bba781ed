package daemon

import (
	"context"
	"log/slog"
	"net/url"

	"gke-metadata-emulator/internal/tracing"
)

func (s *Serve) checkTracing() error {
	if s.OTLPEndpoint == "" {
		return nil
	}
	if u, err := url.Parse(s.OTLPEndpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return wrong("otlp-endpoint", "give the base URL of a collector, like http://collector:4318", "%q is no http or https URL", s.OTLPEndpoint)
	}
	return nil
}

// tracing makes the engine's mints be traced, where somebody collects traces; else it
// is nil.
func (s *Serve) tracing(ctx context.Context, engine *engineOptions, log *slog.Logger) (*tracing.Tracing, error) {
	if s.OTLPEndpoint == "" {
		return nil, nil
	}
	t, err := tracing.New(ctx, s.OTLPEndpoint, s.NodeName, log)
	if err != nil {
		return nil, err
	}
	engine.HTTPClient.Transport = t.Transport(engine.HTTPClient.Transport)
	engine.Trace = t.Source
	return t, nil
}
