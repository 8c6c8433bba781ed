// Package probe answers one question: is the daemon of this node ready, and does
// traffic to the metadata address reach it?
//
// It runs as its own process, since the daemon's own connections might take another
// route than a pod's. It must not know how traffic is routed.
package probe
