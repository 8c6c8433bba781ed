// Package bpf has the programs that run in the kernel. It answers one question: what
// does the kernel execute for us? It must not know to which cgroup a program is
// attached, where a map is pinned, or who reads a record.
//
//   - recorder.c records which cgroup opens a connection, for package identity/attest.
//   - redirect.c rewrites the destination of a connection, for package routing.
//
// Each C file is compiled to an object for little-endian machines (.o) and to Go code
// that loads it (_bpfel.go), which has the layouts of the records. Both are committed,
// so a build needs Go alone. After a change of a C file run make bpf and commit what
// it generates: TestChecksums_MatchFiles fails otherwise.
package bpf
