// Package integration holds the tests that ask whether it really works: the
// daemon, as main starts it, against a real API server, with pods created through
// the API and a client for each that connects from the pod's address; and an
// offline Google that checks what the real one does.
package integration
