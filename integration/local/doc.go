// Package local runs the examples for one machine, without a cluster, as their users run
// them: the commands of their READMEs, and their Compose files, in separate network
// namespaces.
//
// It answers one question: does a README for a laptop do what it promises? It must not know
// the product except for its program.
package local
