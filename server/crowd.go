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

// source is whose connections are counted together: the pod that the kernel names,
// as pods of the node's network share its address; an address where it names none.
type source struct {
	podUID  string
	address netip.Addr
}

// attested is a connection of whose other end the kernel may have a proof.
type attested interface{ PodUID() string }

func sourceOf(conn net.Conn) source {
	if ours, ok := conn.(flavored); ok {
		conn = ours.Conn
	}
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

	mu      sync.Mutex
	turn    uint64 // counts what connections do
	sources map[source]map[net.Conn]visitor
}

type visitor struct {
	busy bool // a request is being answered
	turn uint64
}

// state follows one connection; see the ConnState of [http.Server]. A connection is
// active once the head of a request has been read.
func (c *crowd) state(conn net.Conn, state http.ConnState) {
	of := sourceOf(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch _, known := c.sources[of][conn]; {
	case state == http.StateNew:
		if !c.room(of) {
			c.refused.Inc()
			_ = conn.Close()
			return
		}
		c.open.Inc()
	case !known: // it was closed here
		return
	case state == http.StateClosed:
		c.forget(of, conn)
		return
	}
	if c.sources[of] == nil {
		c.sources[of] = map[net.Conn]visitor{}
	}
	c.turn++
	c.sources[of][conn] = visitor{busy: state == http.StateActive, turn: c.turn}
}

// room makes room for one more connection and says whether there is any.
func (c *crowd) room(of source) bool {
	here := c.sources[of]
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
	c.forget(of, longest)
	_ = longest.Close()
	return true
}

func (c *crowd) forget(of source, conn net.Conn) {
	c.open.Dec()
	delete(c.sources[of], conn)
	if len(c.sources[of]) == 0 {
		delete(c.sources, of)
	}
}
