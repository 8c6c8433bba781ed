// Package apiserver answers one question: what does the cluster's API server say of
// the few kinds of objects that this program has to do with?
//
// It is client-go's own pieces without its clientset, which cannot be had without
// the types, the codecs and the clients of all of Kubernetes' API groups: they were
// the greater part of the program, and of the memory that it took on each node.
// Who asks declares what it asks for as an interface of its own.
package apiserver
