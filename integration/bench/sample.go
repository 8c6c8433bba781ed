package bench

import (
	"slices"
	"testing"
	"time"
)

// sample is the result of one window with one server, or the medians of several.
// Times are in seconds. cpu and mallocs are per request.
type sample struct{ perSecond, p99, cpu, mallocs float64 }

// compare sends the load to the servers in turns and returns the medians of each. The
// order rotates, so no server is always the one that finds the machine warm.
func (l load) compare(t *testing.T, rounds int, window time.Duration, servers ...*program) []sample {
	t.Helper()
	l.sourceIP, l.path = podIP, tokenPath
	samples := make([][]sample, len(servers))
	for round := range rounds {
		for turn := range servers {
			i := (round + turn) % len(servers)
			samples[i] = append(samples[i], l.sample(t, servers[i], window))
		}
	}
	medians := make([]sample, len(servers))
	for i := range servers {
		medians[i] = median(samples[i])
	}
	return medians
}

func (l load) sample(t *testing.T, p *program, window time.Duration) sample {
	t.Helper()
	before := p.costs(t)
	o, err := l.run(t.Context(), p.address, window)
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

// costs are the CPU seconds and allocations since the program started.
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

// median returns the median of each column.
func median(samples []sample) sample {
	column := func(value func(sample) float64) float64 {
		var values []float64
		for _, s := range samples {
			values = append(values, value(s))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return sample{
		perSecond: column(func(s sample) float64 { return s.perSecond }),
		p99:       column(func(s sample) float64 { return s.p99 }),
		cpu:       column(func(s sample) float64 { return s.cpu }),
		mallocs:   column(func(s sample) float64 { return s.mallocs }),
	}
}
