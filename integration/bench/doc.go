// Package bench measures the daemon as a workload experiences it, and what it costs the
// node.
//
// It answers one question: what does a request cost compared with the least that a Go
// server can do? It must not know how the daemon works.
//
// All relevant figures are ratios of measurements that alternate in one run, so the speed
// of the machine cancels out. There are two floors, which return the same token with Go's
// own HTTP server and do nothing else:
//
//   - bare: http.Server without any settings
//   - hard: with the product's timeouts, header limit and its two extra headers
//
// The goals are ratios to hard: the product must not give up its protection against slow
// clients for a better figure.
//
//	make bench
//	go test -count=1 -v -run Profile ./bench -measure -profile /tmp/profiles
//
// Without -measure, go test runs the same measurements briefly to check that they work. The
// figures of such a run are meaningless.
package bench
