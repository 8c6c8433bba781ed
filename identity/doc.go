// Package identity answers one question: who is calling?
//
// A [Connection] that the server accepted leads to the [Pod] at its other end,
// once, when the connection first needs an identity. The pod leads to its
// [Workload]: the Kubernetes service account (KSA) that it runs as and the
// Google service account (GSA) that the KSA is annotated with, read at every
// request, so that a changed annotation takes effect on the next one.
//
// Two resolvers exist: [Kubernetes] asks a cluster, [Static] reads a file for
// machines without a cluster. The package knows nothing of tokens and nothing
// of HTTP.
package identity
