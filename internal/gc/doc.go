// Package gc tunes the garbage collector of a program with a small heap.
//
// It answers one question: at which size of the heap does the next collection start? It
// must not know the objects on the heap.
package gc
