// Package buildcache keeps programs that tests build or install once for each version:
// a folder that is complete or absent, a lock between processes, and progress while
// a build takes long.
//
// It answers one question: is the program there already? It must not know what it is.
package buildcache
