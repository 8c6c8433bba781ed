// Package process runs a server program for a test: its output goes to a log file,
// it ends with the test's process, and an error about it shows the end of its log.
//
// It answers one question: does the program run, and if not, why? It must not know
// which program it is.
package process
