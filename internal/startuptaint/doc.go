// Package startuptaint answers one question: when is the node's start-up taint removed?
//
// Cluster operators register nodes with the taint, so that no pod starts before it can
// get tokens. A [Remover] removes it once the daemon serves, and again each time the
// node has rejoined the cluster.
//
// The package must not know how pods are served, nor which taints other programs use.
package startuptaint
