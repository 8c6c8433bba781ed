// Package scratch makes temporary folders that a later run can remove after a crash.
//
// It answers one question: which folders are still in use? It must not know their
// contents.
package scratch
