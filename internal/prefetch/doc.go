// Package prefetch mints the tokens of a node's pods before they ask: from the
// moment when a pod is bound to the node until its container runs there is time
// enough, and a pod that has its token late has it late for all its work.
//
// It answers one question: who will ask? What it mints is in the cache of the
// [tokens.Source]; it keeps no token itself.
package prefetch
