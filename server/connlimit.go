package server

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// maxConnections is how many connections one source can have open. A pod needs a
// few; a pod that leaks connections must not use up the descriptors of all.
const maxConnections = 256

// source is the unit that the limit applies to: the pod that the kernel names,
// because pods of the node's network share its address, or else an address.
type source struct {
	podUID  string
	address netip.Addr
}

// attested is a connection that can have the kernel's proof of the calling pod.
type attested interface{ PodUID() string }

func sourceOf(accepted net.Conn) source {
	if proof, ok := accepted.(attested); ok && proof.PodUID() != "" {
		return source{podUID: proof.PodUID()}
	}
	return source{address: addrPort(accepted.RemoteAddr()).Addr()}
}

// connLimiter limits the open connections of each source. A connection above the
// limit closes the source's longest idle one; if none is idle, it is itself closed.
type connLimiter struct {
	maxPerSource    int
	open            prometheus.Gauge
	evicted         prometheus.Counter // idle connections closed by the limit
	refused         prometheus.Counter // new connections closed by the limit
	lastStateChange atomic.Uint64      // a count that orders the state changes of all connections

	mu    sync.Mutex
	conns map[source]map[*conn]bool // guarded by mu
}

// activity is when a connection was last active. The goroutine that serves the
// connection writes it, the limiter reads it from other goroutines.
type activity struct {
	busy       atomic.Bool   // a request is being answered
	lastActive atomic.Uint64 // the limiter's count at the last state change
}

func (a *activity) touch(busy bool, count uint64) {
	a.busy.Store(busy)
	a.lastActive.Store(count)
}

// onState is the ConnState hook of [http.Server]. A connection is active once the
// head of a request has been read.
func (l *connLimiter) onState(accepted net.Conn, state http.ConnState) {
	c := accepted.(*conn) // made by our listener
	switch state {
	case http.StateNew:
		l.add(c)
	case http.StateClosed:
		l.remove(c)
	}
	c.touch(state == http.StateActive, l.lastStateChange.Add(1))
}

func (l *connLimiter) add(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.admit(c.source) {
		l.refused.Inc()
		_ = c.Close()
		return
	}
	l.open.Inc()
	if l.conns[c.source] == nil {
		l.conns[c.source] = map[*conn]bool{}
	}
	l.conns[c.source][c] = true
}

func (l *connLimiter) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns[c.source][c] { // a connection that the limit closed is no longer listed
		l.forget(c)
	}
}

// admit reports whether a source can open one more connection. It evicts an idle one
// if necessary. The caller holds mu.
func (l *connLimiter) admit(from source) bool {
	conns := l.conns[from]
	if len(conns) < l.maxPerSource {
		return true
	}
	var idlest *conn
	for c := range conns {
		if !c.busy.Load() && (idlest == nil || c.lastActive.Load() < idlest.lastActive.Load()) {
			idlest = c
		}
	}
	if idlest == nil {
		return false
	}
	l.evicted.Inc()
	l.forget(idlest)
	_ = idlest.Close()
	return true
}

// forget removes a listed connection. The caller holds mu.
func (l *connLimiter) forget(c *conn) {
	l.open.Dec()
	delete(l.conns[c.source], c)
	if len(l.conns[c.source]) == 0 {
		delete(l.conns, c.source)
	}
}
