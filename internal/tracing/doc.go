// Package tracing sends OpenTelemetry traces of mints: one trace for each token that is
// requested from Google, with a span for each call. A token from the cache has no
// trace.
//
// It answers one question: which call of a mint took how long? It is off unless an
// endpoint is configured. It must not send a token, nor send Google anything about a
// trace.
package tracing
