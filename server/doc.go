// Package server answers one question: what does the wire say?
//
// It serves the metadata tree of GKE's metadata server over HTTP. One table
// ([Server.endpoints]) names every key; routes, directory listings and recursive
// answers derive from it. Who calls and what the caller may have it asks of the
// [Identity] and the [tokens.Source] that it is given; it knows nothing of
// Kubernetes and nothing of Google's other services.
package server
