// Package document answers one question: what is wrong with an operator's YAML document?
//
// Its errors are for the author of the document. They must not name types of Go, and the
// package must not know what a document is for.
package document
