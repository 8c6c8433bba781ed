// Package admin answers one question: what can operators and the readiness probe ask
// the program?
//
// It serves /healthz, /readyz and /metrics on an address that pods must not reach.
// [ReadReadiness] is the client of /readyz?format=json, for the readiness probe.
//
// The package must not know what makes the program ready, nor what the metrics count.
package admin
