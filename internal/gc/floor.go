package gc

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// DefaultFloor is a heap size in bytes. It is a compromise between the CPU time of
// collections and the memory of a node; docs/performance.md has the measurements.
const DefaultFloor = 9 << 20

const (
	defaultPercent = 100     // the runtime's GOGC
	minimumHeap    = 4 << 20 // the runtime's minimum heap, which GOGC/100 multiplies: gcControllerState.heapMinimum
	hysteresis     = 10      // percent points; a change stops all goroutines for a moment
)

// HoldFloor lets the heap grow to floor bytes before a collection starts, or to twice the
// live heap if that is more, as Go does by default. It ends when stop is called.
//
// With a live heap of 4 MiB, Go collects at 8 MiB: many times a second under load. A memory
// limit with GOGC=off would collect without pause once the live heap is near the limit, and
// a higher constant GOGC would multiply a large heap, too.
//
// If the environment has GOGC or GOMEMLIMIT, HoldFloor does nothing: the user decides.
func HoldFloor(floor uint64, lookupEnv func(string) (string, bool)) (stop func()) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if value, _ := lookupEnv(name); value != "" {
			return func() {}
		}
	}
	t := &tuner{floor: floor, percent: defaultPercent}
	t.adjust()
	return t.stop
}

// tuner sets GOGC after each collection.
type tuner struct {
	floor uint64

	mu      sync.Mutex
	percent int // guarded by mu
	stopped bool
}

// sentinel is garbage from the start, so each collection finds one. It is too large for
// the runtime's tiny allocator, which would keep it together with its neighbours.
type sentinel struct{ _ [32]byte }

// adjust sets GOGC for the current live heap, and runs again after the next collection.
func (t *tuner) adjust() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return
	}
	if percent := percentFor(t.floor, readRoots()); abs(percent-t.percent) >= hysteresis {
		t.percent = percent
		debug.SetGCPercent(percent)
	}
	runtime.AddCleanup(&sentinel{}, (*tuner).adjust, t)
}

func (t *tuner) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	debug.SetGCPercent(defaultPercent)
}

// roots are what GOGC multiplies, in bytes. See "The GC guide", section GOGC.
type roots struct{ liveHeap, stacks, globals uint64 }

func readRoots() roots {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	return roots{liveHeap: samples[0].Value.Uint64(), stacks: samples[1].Value.Uint64(), globals: samples[2].Value.Uint64()}
}

// percentFor returns the GOGC with which the next collection starts at floor, but at least
// the default.
func percentFor(floor uint64, r roots) int {
	if r.liveHeap >= floor {
		return defaultPercent
	}
	percent := (floor - r.liveHeap) * 100 / max(r.liveHeap+r.stacks+r.globals, 1)
	return int(max(defaultPercent, min(percent, floor*100/minimumHeap)))
}

func abs(n int) int { return max(n, -n) }
