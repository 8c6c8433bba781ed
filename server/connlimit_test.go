package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metric is the sum of the series of a gauge or counter.
func metric(t *testing.T, registry *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return sum
}

func (p pipeServer) open(t *testing.T) int { return int(metric(t, p.registry, "gme_http_connections")) }

func TestConnLimiter_LimitsIdleConnectionsOfASource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := servePipes(t, linked())
		for i := range 2000 {
			p.dial(t, fmt.Sprintf("10.0.0.1:%d", i+1))
		}
		synctest.Wait()
		if open := p.open(t); open != maxConnections {
			t.Errorf("%d connections of one source are open, want %d", open, maxConnections)
		}
		neighbour := p.dial(t, "10.0.0.2:1")
		neighbour.do(t, get(accounts+"/default/token")).expect(t, 200)
		c := p.dial(t, "10.0.0.1:2001")
		c.do(t, get(accounts+"/default/token")).expect(t, 200)
		if closed := metric(t, p.registry, "gme_http_connections_closed_total"); closed != 2001-maxConnections {
			t.Errorf("%v were closed, want %d", closed, 2001-maxConnections)
		}
	})
}

// attestedConn is a connection with the kernel's proof of the pod.
type attestedConn struct {
	pipeConn
	podUID string
}

func (p attestedConn) PodUID() string { return p.podUID }

// Pods of the node's network share one address, and a pod can have several.
func TestConnLimiter_CountsAttestedPodsSeparately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := servePipes(t, linked())
		dial := func(address, podUID string) *client {
			return p.dialAs(t, func(far net.Conn) net.Conn {
				return attestedConn{pipeConn{far, netip.MustParseAddrPort(address)}, podUID}
			})
		}
		neighbour := dial("10.0.0.1:1", "neighbour")
		unattested := dial("10.0.0.1:2", "")
		otherAddress := dial("10.0.0.9:1", "")
		for i := range maxConnections + 100 {
			dial(fmt.Sprintf("10.0.%d.1:%d", i%2, i+10), "greedy")
		}
		synctest.Wait()
		if open := p.open(t); open != maxConnections+3 {
			t.Errorf("%d are open, want %d of the greedy pod and 3 of others", open, maxConnections)
		}
		neighbour.do(t, get(root+"/instance/id")).expect(t, 200)
		unattested.do(t, get(root+"/instance/id")).expect(t, 200)
		for i := range maxConnections {
			dial(fmt.Sprintf("10.0.0.1:%d", i+2000), "")
		}
		synctest.Wait()
		if open := p.open(t); open != 2*maxConnections+2 {
			t.Errorf("%d are open, want %d of the pod, %d of the address and 2 of others", open, maxConnections, maxConnections)
		}
		neighbour.do(t, get(root+"/instance/id")).expect(t, 200)
		otherAddress.do(t, get(root+"/instance/id")).expect(t, 200)
	})
}

// A connection in use stays open.
func TestConnLimiter_ClosesLongestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := servePipes(t, linked())
		var all []*client
		for i := range maxConnections {
			all = append(all, p.dial(t, fmt.Sprintf("10.0.0.1:%d", i+1)))
		}
		synctest.Wait()
		all[0].do(t, get(root+"/instance/id")).expect(t, 200)
		synctest.Wait()
		p.dial(t, "10.0.0.1:60000").do(t, get(root+"/instance/id")).expect(t, 200)
		start := time.Now()
		if _, err := all[1].reader.ReadByte(); err != io.EOF || time.Since(start) > 0 {
			t.Errorf("the longest idle connection: %v after %s", err, time.Since(start))
		}
		all[0].do(t, get(root+"/instance/id")).expect(t, 200)
		all[2].do(t, get(root+"/instance/id")).expect(t, 200)
	})
}

// A request in progress is not given up for a new connection.
func TestConnLimiter_RefusesNewConnectionIfAllAreBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mint := make(chan struct{})
		w := linked()
		w.onToken = func(context.Context) error {
			<-mint
			return nil
		}
		p := servePipes(t, w)
		request := get(accounts + "/default/token")
		var all []*client
		for i := range maxConnections {
			c := p.dial(t, fmt.Sprintf("10.0.0.1:%d", i+1))
			if _, err := io.WriteString(c, request); err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
		synctest.Wait()
		start := time.Now()
		if _, err := p.dial(t, "10.0.0.1:60000").reader.ReadByte(); err != io.EOF || time.Since(start) > 0 {
			t.Errorf("the new connection: %v after %s", err, time.Since(start))
		}
		p.dial(t, "10.0.0.2:1").do(t, get(root+"/instance/id")).expect(t, 200)
		close(mint)
		for _, c := range all {
			c.read(t, request).expect(t, 200)
		}
	})
}

func TestConnLimiter_ForgetsClosedConnections(t *testing.T) {
	limiter := newMetrics(prometheus.NewRegistry()).newConnLimiter(2)
	for i := range 100 {
		near, far := net.Pipe()
		conn := newConn(pipeConn{far, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i / 5)}), uint16(i))}, nil)
		limiter.onState(conn, http.StateNew)
		limiter.onState(conn, http.StateActive)
		if i%2 == 0 {
			limiter.onState(conn, http.StateIdle)
		}
		defer func() {
			limiter.onState(conn, http.StateClosed)
			_ = near.Close()
		}()
	}
	t.Cleanup(func() {
		if len(limiter.conns) > 0 {
			t.Errorf("still listed: %v", limiter.conns)
		}
	})
}
