// Package clients runs Google's own clients, unmodified, as a pod would run them
// against the metadata server, and writes down what they did in docs/clients.md.
//
// It answers one question: does a program that was written for GKE work here? It
// must know nothing of how the server does it.
//
// Each client is installed by its own package manager from a lock file, into the
// user's cache folder. It then runs in a [sandbox]: a network namespace where
// 169.254.169.254 is the server, Google's names are stand-ins that demand a token
// of the offline Google, and nothing else can be reached.
package clients
