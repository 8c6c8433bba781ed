// Package prefetch mints the tokens of a node's pods before the pods request them. The
// time from the moment when a pod is bound to the node until its container runs is
// enough for it, and a pod that waits for its first token starts all its work late.
//
// It answers one question: which pods will request a token? It keeps no token itself:
// the cache of the [tokens.Source] does.
package prefetch
