// Package onprem is an example for a platform team with a cluster of its own, see
// README.md. There is no program in it but the Prometheus that go.mod names, for
// tests.
package onprem
