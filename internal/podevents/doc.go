// Package podevents answers one question: which Kubernetes events tell the owner of a
// pod why it gets no identity or no token?
//
// A [Notifier] decorates the sources of identities and tokens and writes an event about
// each refusal that the pod's owner, or the cluster's operator, has to fix.
//
// The package must not know how identities are found and tokens minted, and never
// changes what a caller is answered.
package podevents
