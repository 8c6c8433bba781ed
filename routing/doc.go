// Package routing answers one question: how do packets for the metadata address reach
// the server? It knows the kernel of the node. It must not know pods, requests, or how
// the server is configured.
package routing
