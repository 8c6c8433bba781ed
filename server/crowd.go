package server

import (
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// maxConnections is how many connections one source may have open. A pod has a
// few; one that leaks them must not take the descriptors of all.
const maxConnections = 256

// crowd bounds the connections of each source. One more than the bound closes the
// one that has been silent for longest; where all are busy it is closed itself.
type crowd struct {
	most            int
	open            prometheus.Gauge
	silent, refused prometheus.Counter // closed by the bound

	mu      sync.Mutex
	turn    uint64 // counts what connections do
	sources map[netip.Addr]map[net.Conn]visitor
}

type visitor struct {
	busy bool // a request is being answered
	turn uint64
}

// state follows one connection; see the ConnState of [http.Server]. A connection is
// active once the head of a request has been read.
func (c *crowd) state(conn net.Conn, state http.ConnState) {
	source := addrPort(conn.RemoteAddr()).Addr()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch _, known := c.sources[source][conn]; {
	case state == http.StateNew:
		if !c.room(source) {
			c.refused.Inc()
			_ = conn.Close()
			return
		}
		c.open.Inc()
	case !known: // it was closed here
		return
	case state == http.StateClosed:
		c.forget(source, conn)
		return
	}
	if c.sources[source] == nil {
		c.sources[source] = map[net.Conn]visitor{}
	}
	c.turn++
	c.sources[source][conn] = visitor{busy: state == http.StateActive, turn: c.turn}
}

// room makes room for one more connection and says whether there is any.
func (c *crowd) room(source netip.Addr) bool {
	here := c.sources[source]
	if len(here) < c.most {
		return true
	}
	var longest net.Conn
	for conn, v := range here {
		if !v.busy && (longest == nil || v.turn < here[longest].turn) {
			longest = conn
		}
	}
	if longest == nil {
		return false
	}
	c.silent.Inc()
	c.forget(source, longest)
	_ = longest.Close()
	return true
}

func (c *crowd) forget(source netip.Addr, conn net.Conn) {
	c.open.Dec()
	delete(c.sources[source], conn)
	if len(c.sources[source]) == 0 {
		delete(c.sources, source)
	}
}
