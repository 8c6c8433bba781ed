// Package tracing sends OpenTelemetry traces of mints: one for each token that
// Google had to be asked for, with a span for each call. A token that was there
// already leaves no trace.
//
// It answers one question: where did the time of a mint go? It is off unless
// somebody says where traces are to be sent.
package tracing
