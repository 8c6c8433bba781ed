// Package dns answers one question: what has a cluster's CoreDNS to be told so that
// it knows the metadata server by name?
//
// It edits texts, Corefiles, and must not know where they come from. It adds a
// server block of its own, between two comments, and changes nothing else: a block
// for a longer name is asked before the cluster's own block for the root, whatever
// stands in that. What it does not understand it refuses.
package dns
