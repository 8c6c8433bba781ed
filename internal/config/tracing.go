package config

import "github.com/spf13/pflag"

// Tracing has the collector of the traces.
type Tracing struct {
	OTLPEndpoint string // base URL of a collector; empty: no traces
}

func (t *Tracing) flags(f *pflag.FlagSet) {
	f.StringVar(&t.OTLPEndpoint, "otlp-endpoint", "", "base `URL` of the OpenTelemetry collector that receives a trace of each mint, like http://collector:4318 (default: none)")
	setPattern(f, "otlp-endpoint", httpURL)
}

func (t *Tracing) check() error {
	if t.OTLPEndpoint != "" && !isHTTPURL(t.OTLPEndpoint) {
		return FlagErrorf("otlp-endpoint", "give the base URL of a collector, like http://collector:4318", "%q is not an http or https URL", t.OTLPEndpoint)
	}
	return nil
}
