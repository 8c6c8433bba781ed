// Package conformance answers one question: does a metadata server answer as
// Google's does, byte by byte?
//
// [Cases] is a table of facts about GKE's metadata server as seen on the wire. Each
// case names its source ([Truth], Source). [Run] sends the requests to any server and
// reports the results. It must not know how the server is made. Of the server's
// values it knows only the shape, and that they agree with one another.
package conformance
