// Package onprem is an example for a platform team with its own cluster: see
// README.md. It has no program; its tests use the version of Prometheus in go.mod.
package onprem
