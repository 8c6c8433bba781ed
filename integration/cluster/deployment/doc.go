// Package deployment installs the product in a cluster of package cluster as its
// manual says, for tests: the manifests of deploy/ with their placeholders filled
// in, and an offline Google on the loopback of each node.
//
// It answers one question: what has an operator done before the workload comes?
package deployment
