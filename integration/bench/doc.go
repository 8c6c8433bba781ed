// Package bench measures the daemon as a workload experiences it, and what it costs the
// node.
//
// All numbers that matter are ratios of measurements that alternate in one run, so the
// speed of the machine cancels out. The floor is a program that answers the same bytes
// with Go's own HTTP server and does nothing else.
//
//	make bench
//
// Without a flag, go test runs the same measurements briefly to check that they work. The
// figures of such a run are meaningless.
package bench
