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

// gauge reads one metric, the sum of its series.
func gauge(t *testing.T, registry *prometheus.Registry, name string) (sum float64) {
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

func (p pipeline) open(t *testing.T) int { return int(gauge(t, p.registry, "gme_http_connections")) }

func TestTwoThousandSilentConnectionsAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := servePipes(t, linked())
		for i := range 2000 {
			p.dial(t, fmt.Sprintf("10.0.0.1:%d", i+1))
		}
		synctest.Wait()
		if open := p.open(t); open != maxConnections {
			t.Errorf("%d of one source are open, want %d", open, maxConnections)
		}
		neighbour := p.dial(t, "10.0.0.2:1")
		neighbour.ask(t, get(accounts+"/default/token")).expect(t, 200)
		c := p.dial(t, "10.0.0.1:2001")
		c.ask(t, get(accounts+"/default/token")).expect(t, 200)
		if closed := gauge(t, p.registry, "gme_http_connections_closed_total"); closed != 2001-maxConnections {
			t.Errorf("%v were closed", closed)
		}
	})
}

// proved is a connection of a pod of the node's network, as the kernel proves it.
type proved struct {
	piped
	podUID string
}

func (p proved) PodUID() string { return p.podUID }

// Pods of the node's network come from one address, and a pod may come from many.
func TestThePodsBehindOneAddressAreBoundedEachForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := servePipes(t, linked())
		dial := func(address, podUID string) *client {
			return p.through(t, func(far net.Conn) net.Conn {
				return proved{piped{far, netip.MustParseAddrPort(address)}, podUID}
			})
		}
		neighbour := dial("10.0.0.1:1", "neighbour")
		unproved := dial("10.0.0.1:2", "")
		elsewhere := dial("10.0.0.9:1", "")
		for i := range maxConnections + 100 {
			dial(fmt.Sprintf("10.0.%d.1:%d", i%2, i+10), "greedy")
		}
		synctest.Wait()
		if open := p.open(t); open != maxConnections+3 {
			t.Errorf("%d are open, want %d of the pod that has too many and 3 of others", open, maxConnections)
		}
		neighbour.ask(t, get(root+"/instance/id")).expect(t, 200)
		unproved.ask(t, get(root+"/instance/id")).expect(t, 200)
		for i := range maxConnections {
			dial(fmt.Sprintf("10.0.0.1:%d", i+2000), "")
		}
		synctest.Wait()
		if open := p.open(t); open != 2*maxConnections+2 {
			t.Errorf("%d are open, want %d of the address too", open, maxConnections)
		}
		neighbour.ask(t, get(root+"/instance/id")).expect(t, 200)
		elsewhere.ask(t, get(root+"/instance/id")).expect(t, 200)
	})
}

// Of the silent ones the longest silent goes: a connection in use stays.
func TestTheLongestSilentConnectionMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := servePipes(t, linked())
		var all []*client
		for i := range maxConnections {
			all = append(all, p.dial(t, fmt.Sprintf("10.0.0.1:%d", i+1)))
		}
		synctest.Wait()
		all[0].ask(t, get(root+"/instance/id")).expect(t, 200)
		synctest.Wait()
		p.dial(t, "10.0.0.1:60000").ask(t, get(root+"/instance/id")).expect(t, 200)
		start := time.Now()
		if _, err := all[1].reader.ReadByte(); err != io.EOF || time.Since(start) > 0 {
			t.Errorf("the longest silent connection: %v after %s", err, time.Since(start))
		}
		all[0].ask(t, get(root+"/instance/id")).expect(t, 200)
		all[2].ask(t, get(root+"/instance/id")).expect(t, 200)
	})
}

// Requests that are being answered are not given up for new ones.
func TestAConnectionMoreThanAllBusyOnesIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mint := make(chan struct{})
		w := linked()
		w.token = func(context.Context) error {
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
			t.Errorf("one more: %v after %s", err, time.Since(start))
		}
		p.dial(t, "10.0.0.2:1").ask(t, get(root+"/instance/id")).expect(t, 200)
		close(mint)
		for _, c := range all {
			c.read(t, request).expect(t, 200)
		}
	})
}

func TestNothingIsKeptOfConnectionsThatHaveEnded(t *testing.T) {
	crowd := newMetrics(prometheus.NewRegistry()).newCrowd(2)
	for i := range 100 {
		near, far := net.Pipe()
		conn := &peer{Conn: piped{far, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i / 5)}), uint16(i))}}
		crowd.state(conn, http.StateNew)
		crowd.state(conn, http.StateActive)
		if i%2 == 0 {
			crowd.state(conn, http.StateIdle)
		}
		defer func() {
			crowd.state(conn, http.StateClosed)
			_ = near.Close()
		}()
	}
	t.Cleanup(func() {
		if len(crowd.sources) > 0 {
			t.Errorf("still known: %v", crowd.sources)
		}
	})
}
