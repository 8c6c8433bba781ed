// Package certs makes certificates for stand-ins of servers on the Internet.
//
// It answers one question: how can a client trust a stand-in without trusting anything
// else? It must not know what the stand-in serves.
package certs
