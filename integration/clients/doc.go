// Package clients runs Google's own clients, unmodified, against the metadata server as a
// pod would run them, and records what they did in docs/clients.md.
//
// It answers one question: does a program that was written for GKE work here? It must not
// know how the server does it.
//
// Each client is installed by its own package manager from a lock file, into the user's
// cache folder. It then runs in a [sandbox]: a network namespace in which 169.254.169.254
// is the server, Google's names are stand-ins that require a token of the offline Google,
// and nothing else can be reached.
package clients
