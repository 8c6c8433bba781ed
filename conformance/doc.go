// Package conformance answers one question: does a metadata server say what
// Google's says, byte by byte?
//
// [Cases] is a table of what is true of GKE's metadata server as seen from the wire.
// Each case says how that is known ([Truth], Source). [Run] asks any server and
// reports; it knows nothing of how the server is made, and of the values that the
// server gives only their shape and how they agree with one another.
package conformance
