// Package bench measures the daemon as a workload meets it, and what it costs the
// node.
//
// All numbers that matter are ratios of things that were measured in turns in one
// run: the machine they ran on cancels out. The floor is a program that answers
// the same bytes with Go's own HTTP server and does nothing else.
//
//	make bench
//
// With go test and no flag the same is done briefly, to see that it works; what
// comes out then says nothing.
package bench
