// Package facts answers one question: what does the metadata server report about the
// project, the cluster and the node?
//
// Most facts follow from settings. The cluster's UID and the node's zone are read from
// the API server, and further attributes from a file, while the server runs.
//
// The package must not know the caller: facts are the same for every caller. Identities
// and tokens are none.
package facts
