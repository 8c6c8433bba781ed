// Package dns answers one question: which configuration does a cluster's CoreDNS need
// to resolve the names of the metadata server?
//
// It edits the text of Corefiles and must not know where they come from. It adds one
// server block, between two comments, and changes nothing else: CoreDNS prefers the
// block of a longer name to the cluster's block for the root, regardless of that
// block's content. It refuses a Corefile that it does not understand.
package dns
