// Package apiserver answers one question: what is the state of the few kinds of
// objects that this program reads and writes in the API server?
//
// It uses the parts of client-go without its clientset, which includes the types, the
// codecs and the clients of all of Kubernetes' API groups: they were the greater part
// of the program, and of its memory on each node. It must not know the purpose of a
// request. Each package that uses a [Client] declares the methods that it needs as an
// interface.
package apiserver
