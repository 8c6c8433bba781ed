package gc

import (
	"os"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPercent_KeepsTheFloorAndNeverFallsBelowTheDefault(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name     string
		roots    roots
		expected int
	}{
		{"a small live heap", roots{liveHeap: 4 * mib}, 300},
		{"stacks and globals count", roots{liveHeap: 4 * mib, stacks: 1 * mib, globals: 1 * mib}, 200},
		{"half of the floor", roots{liveHeap: 8 * mib}, 100},
		{"the floor", roots{liveHeap: 16 * mib}, 100},
		{"more than the floor", roots{liveHeap: 500 * mib}, 100},
		{"a tiny live heap: the runtime's minimum is the floor", roots{liveHeap: mib / 2}, 400},
		{"no collection yet", roots{}, 400},
	} {
		if percent := percentFor(16*mib, c.roots); percent != c.expected {
			t.Errorf("%s: %d, expected %d", c.name, percent, c.expected)
		}
	}
}

func TestHoldFloor_MovesTheStartOfTheNextCollection(t *testing.T) {
	const floor = 32 << 20
	before := heapGoal()
	stop := HoldFloor(floor, func(string) (string, bool) { return "", false })
	defer stop()
	awaitGoal(t, "a small heap", func(goal uint64) bool { return goal > floor*9/10 && goal < floor*11/10 })

	live := make([]byte, floor) // twice that is more than the floor
	awaitGoal(t, "a large heap", func(goal uint64) bool { return goal > 2*floor*9/10 && goal < 2*floor*13/10 })
	runtime.KeepAlive(live)
	live = nil
	awaitGoal(t, "a small heap again", func(goal uint64) bool { return goal > floor*9/10 && goal < floor*11/10 })

	stop()
	awaitGoal(t, "stopped", func(goal uint64) bool { return goal <= max(before, 8<<20) })
}

func TestHoldFloor_IsIgnoredIfTheUserDecides(t *testing.T) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "200")
			runtime.GC()
			before := heapGoal()
			stop := HoldFloor(1<<30, os.LookupEnv)
			goal := heapGoal()
			stop()
			if goal > 2*before {
				t.Errorf("the next collection starts at %d bytes, before at %d", goal, before)
			}
		})
	}
}

func heapGoal() uint64 {
	samples := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64()
}

// awaitGoal collects until the next collection's start is as expected: the tuner runs in
// the runtime's own goroutine some time after a collection.
func awaitGoal(t *testing.T, name string, expected func(uint64) bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		runtime.GC()
		goal := heapGoal()
		if expected(goal) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: the next collection starts at %d bytes", name, goal)
		}
		runtime.Gosched()
	}
}
