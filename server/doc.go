// Package server answers one question: what does the wire say?
//
// It serves the metadata tree of GKE's metadata server over HTTP. One table
// ([Server.endpoints]) lists every key; routes, directory listings and recursive
// responses derive from it. The caller and its tokens come from the [Identity] and
// the [tokens.Source] in [Options]. This package knows nothing of Kubernetes and
// nothing of Google's other services.
package server
