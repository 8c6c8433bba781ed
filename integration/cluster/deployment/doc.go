// Package deployment installs the product in a cluster of package cluster as its manual
// describes, for tests: the manifests of deploy/ with their placeholders filled in, and an
// offline Google on the loopback interface of each node.
//
// It answers one question: which steps has an operator taken before the first workload starts? It
// must not know the tests' workloads.
package deployment
