// Package standintest is what the tests of the stand-ins share: a fakegoogle that trusts
// a cluster's key, tokens of its pods, and a log that can be read while it is written.
//
// It answers one question: how does a pod's token reach a stand-in? It must not know
// what the stand-in serves.
package standintest
