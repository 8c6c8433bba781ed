// Package routing answers one question: how do packets for the metadata address
// reach the server? It knows the kernel and nothing else of the program.
package routing
