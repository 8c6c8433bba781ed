// Package local runs the examples for one machine, without a cluster, as their
// users run them: the commands of their READMEs, and what they say to Docker
// Compose, in network namespaces of its own.
//
// It answers one question: does the README of a laptop do what it says? It must
// know nothing of the product but its program.
package local
