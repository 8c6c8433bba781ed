package bench

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/integration/kubernetes"
)

var measure = flag.Bool("measure", false, "measure for real, and fail where a goal is missed")

const tokenPath = "/computeMetadata/v1/instance/service-accounts/default/token"

// A cached token costs hardly more than the bytes that it is.
func TestCachedToken_AgainstTheFloor(t *testing.T) {
	rounds, each := 1, 100*time.Millisecond
	if *measure {
		rounds, each = 7, 2*time.Second
	}
	e := newNode(t)
	daemon := e.daemon(e.attested(e.pod("app", "127.0.1.1"))...)
	e.awaitToken(daemon, "127.0.1.1")
	floor := startFloor(t, buildProgram(t, "integration", "./bench/floor"), answerOf(t, daemon, "127.0.1.1"))

	var table strings.Builder
	for _, l := range []load{
		{connections: 1}, {connections: 16}, {connections: 128}, {connections: 16, reconnect: true},
		{connections: 1, differing: true}, {connections: 16, differing: true}, {connections: 128, differing: true}, {connections: 16, reconnect: true, differing: true},
	} {
		l.from, l.path = "127.0.1.1", tokenPath
		var kind, floors []sample
		for round := range rounds {
			// Neither is always the one that finds the machine warm.
			if round%2 == 0 {
				floors, kind = append(floors, l.sample(t, floor, each)), append(kind, l.sample(t, daemon, each))
			} else {
				kind, floors = append(kind, l.sample(t, daemon, each)), append(floors, l.sample(t, floor, each))
			}
		}
		a, b := median(kind), median(floors)
		fmt.Fprintf(&table, "| %s | %.2f | %.2f | %.2f | %.0f | %.0f/s, %s, %s | %.0f/s, %s, %s |\n", l,
			a.perSecond/b.perSecond, a.p99/b.p99, a.cpu/b.cpu, a.mallocs-b.mallocs,
			a.perSecond, micro(a.p99), micro(a.cpu), b.perSecond, micro(b.p99), micro(b.cpu))
		if *measure {
			l.judge(t, a, b)
		}
	}
	t.Logf("a cached token against the floor, medians of %d rounds of %s:\n"+
		"| | requests/s | p99 | CPU a request | allocations more | daemon: requests, p99, CPU | floor |\n|---|---|---|---|---|---|---|\n%s", rounds, each, table.String())
}

// judge fails the test if a goal is missed. If each request is a different one, the result
// must not be worse than it is today.
func (l load) judge(t *testing.T, daemon, floor sample) {
	t.Helper()
	perSecond, p99, cpu, mallocs := 0.90, 1.3, 1.25, 15.0
	if l.differing {
		perSecond, p99, cpu, mallocs = 0.60, 1.7, 1.9, 45
	}
	if got := daemon.perSecond / floor.perSecond; got < perSecond {
		t.Errorf("%s: %.2f of the floor's requests a second, want %.2f at least", l, got, perSecond)
	}
	if got := daemon.p99 / floor.p99; got > p99 {
		t.Errorf("%s: %.2f times the floor's p99, want %.2f at most", l, got, p99)
	}
	if got := daemon.cpu / floor.cpu; l.connections == 16 && got > cpu {
		t.Errorf("%s: %.2f times the floor's CPU a request, want %.2f at most", l, got, cpu)
	}
	if got := daemon.mallocs - floor.mallocs; got > mallocs {
		t.Errorf("%s: %.0f allocations a request more than the floor's, want %.0f at most", l, got, mallocs)
	}
}

// sample is one turn of one server. Times are in seconds.
type sample struct{ perSecond, p99, cpu, mallocs float64 }

func (l load) sample(t *testing.T, p *program, d time.Duration) sample {
	t.Helper()
	before := p.costs(t)
	o, err := l.run(t.Context(), p.address, d)
	if err != nil {
		t.Fatal(err)
	}
	after := p.costs(t)
	return sample{
		perSecond: o.perSecond(), p99: o.percentile(99).Seconds(),
		cpu:     (after.cpu - before.cpu) / float64(o.requests),
		mallocs: (after.mallocs - before.mallocs) / float64(o.requests),
	}
}

// costs are those since the program started.
func (p *program) costs(t *testing.T) sample {
	t.Helper()
	mallocs, err := p.metric(t.Context(), "go_memstats_mallocs_total")
	if err != nil {
		t.Fatal(err)
	}
	cpu, err := p.cpu()
	if err != nil {
		t.Fatal(err)
	}
	return sample{cpu: cpu.Seconds(), mallocs: mallocs}
}

// median is that of each column.
func median(samples []sample) sample {
	middle := func(kind func(sample) float64) float64 {
		var values []float64
		for _, s := range samples {
			values = append(values, kind(s))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return sample{
		perSecond: middle(func(s sample) float64 { return s.perSecond }),
		p99:       middle(func(s sample) float64 { return s.p99 }),
		cpu:       middle(func(s sample) float64 { return s.cpu }),
		mallocs:   middle(func(s sample) float64 { return s.mallocs }),
	}
}

func micro(seconds float64) string { return fmt.Sprintf("%.0f µs", seconds*1e6) }

// answerOf is the daemon's answer to a request for a token, for the floor.
func answerOf(t *testing.T, daemon *program, ip string) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+daemon.address+tokenPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Metadata-Flavor", "Google")
	response, err := kubernetes.Client(t, ip).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", response.Status, body, err)
	}
	response.Header.Del("Date") // Go's server writes it
	answer, err := json.Marshal(struct {
		Header http.Header
		Body   []byte
	}{response.Header, body})
	if err != nil {
		t.Fatal(err)
	}
	return answer
}
