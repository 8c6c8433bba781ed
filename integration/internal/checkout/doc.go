// Package checkout finds the source of the product and builds programs of it.
//
// It answers one question: where is the source that this test belongs to? It must not
// know what the programs do.
package checkout
