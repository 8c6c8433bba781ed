// Package integration tests the daemon, as main starts it, against a real API server, with
// pods created through the API and clients that connect from the pods' addresses, and with
// an offline Google that checks what the real one checks.
//
// It answers one question: does it really work?
package integration
