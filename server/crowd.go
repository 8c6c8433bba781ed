package server

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// maxConnections is how many connections one source may have open. A pod has a
// few; one that leaks them must not take the descriptors of all.
const maxConnections = 256

// source is whose connections are counted together: the pod that the kernel names,
// as pods of the node's network share its address; an address where it names none.
type source struct {
	podUID  string
	address netip.Addr
}

// attested is a connection of whose other end the kernel may have a proof.
type attested interface{ PodUID() string }

func sourceOf(conn net.Conn) source {
	if proved, ok := conn.(attested); ok && proved.PodUID() != "" {
		return source{podUID: proved.PodUID()}
	}
	return source{address: addrPort(conn.RemoteAddr()).Addr()}
}

// crowd bounds the connections of each source. One more than the bound closes the
// one that has been silent for longest; where all are busy it is closed itself.
type crowd struct {
	most            int
	open            prometheus.Gauge
	silent, refused prometheus.Counter // closed by the bound

	turn atomic.Uint64 // counts what connections do

	mu      sync.Mutex
	sources map[source]map[*peer]bool
}

// visit is what a connection did last. It is noted at each request, without a lock.
type visit struct {
	busy atomic.Bool // a request is being answered
	turn atomic.Uint64
}

// state follows one connection; see the ConnState of [http.Server]. A connection is
// active once the head of a request has been read.
func (c *crowd) state(of net.Conn, state http.ConnState) {
	conn := of.(*peer) // as our listener gives them
	switch state {
	case http.StateNew:
		c.came(conn)
	case http.StateClosed:
		c.went(conn)
	}
	conn.busy.Store(state == http.StateActive)
	conn.turn.Store(c.turn.Add(1))
}

func (c *crowd) came(conn *peer) {
	of := sourceOf(conn.Conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.room(of) {
		c.refused.Inc()
		_ = conn.Close()
		return
	}
	c.open.Inc()
	if c.sources[of] == nil {
		c.sources[of] = map[*peer]bool{}
	}
	c.sources[of][conn] = true
}

func (c *crowd) went(conn *peer) {
	of := sourceOf(conn.Conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sources[of][conn] { // else it was closed here
		c.forget(of, conn)
	}
}

// room makes room for one more connection and says whether there is any.
func (c *crowd) room(of source) bool {
	here := c.sources[of]
	if len(here) < c.most {
		return true
	}
	var longest *peer
	for conn := range here {
		if !conn.busy.Load() && (longest == nil || conn.turn.Load() < longest.turn.Load()) {
			longest = conn
		}
	}
	if longest == nil {
		return false
	}
	c.silent.Inc()
	c.forget(of, longest)
	_ = longest.Close()
	return true
}

func (c *crowd) forget(of source, conn *peer) {
	c.open.Dec()
	delete(c.sources[of], conn)
	if len(c.sources[of]) == 0 {
		delete(c.sources, of)
	}
}
