package tokens

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/identity"
)

func podNamed(uid string) identity.Workload {
	return identity.Workload{Pod: identity.Pod{Namespace: "shop", Name: uid, UID: uid}}
}

func newTestTurns(all, ofPod, waiting int) *turns {
	return newTurns(all, ofPod, waiting, newMetrics(prometheus.NewRegistry()))
}

// wantNone checks that nothing is left of pods that have come and gone.
func (t *turns) wantNone(test *testing.T) {
	test.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running != 0 || len(t.pods) != 0 || len(t.waiting) != 0 {
		test.Errorf("%d run, %d pods are known, %d wait", t.running, len(t.pods), len(t.waiting))
	}
}

func TestWhoGivesUpWaitingForATurnLeavesItToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTestTurns(1, 1, 10)
		check(t, turns.take(t.Context(), podNamed("a")))
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error)
		go func() { gaveUp <- turns.take(ctx, podNamed("b")) }()
		synctest.Wait()
		took := make(chan error)
		go func() { took <- turns.take(t.Context(), podNamed("c")) }()
		synctest.Wait()
		cancel()
		err := <-gaveUp
		wantError(t, err, Unavailable, "pod shop/b had no turn in time")
		if !errors.Is(err, context.Canceled) {
			t.Error("the cause is lost")
		}
		turns.give("a")
		check(t, <-took)
		turns.give("c")
		turns.wantNone(t)
	})
}

func TestNoTurnIsLostHoweverManyGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTestTurns(3, 2, 100)
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				pod := podNamed(string(rune('a' + i%7)))
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%13)*time.Millisecond)
				defer cancel()
				if turns.take(ctx, pod) == nil {
					time.Sleep(time.Duration(i%5) * time.Millisecond) // ends as others give up
					turns.give(pod.Pod.UID)
				}
			})
		}
		all.Wait()
		turns.wantNone(t)
		for range 3 {
			check(t, turns.take(t.Context(), podNamed("a"+time.Now().String())))
			time.Sleep(time.Nanosecond)
		}
	})
}

func TestPodsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTestTurns(1, 1, 100)
		var mu sync.Mutex
		var order string
		var all sync.WaitGroup
		for _, pod := range []string{"a", "a", "a", "a", "b", "c", "b"} {
			all.Go(func() {
				check(t, turns.take(t.Context(), podNamed(pod)))
				mu.Lock()
				order += pod
				mu.Unlock()
				time.Sleep(time.Second)
				turns.give(pod)
			})
			synctest.Wait()
		}
		all.Wait()
		if order != "aabcaba" {
			t.Errorf("turns in the order %s", order)
		}
		turns.wantNone(t)
	})
}

func TestPodThatHasTooManyWaitingIsToldToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTestTurns(1, 1, 2)
		check(t, turns.take(t.Context(), podNamed("a")))
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() { check(t, turns.take(t.Context(), podNamed("a"))); turns.give("a") })
		}
		synctest.Wait()
		e := wantError(t, turns.take(t.Context(), podNamed("a")), Unavailable, "Pod shop/a asks for more than 2 different tokens at once")
		if e.RetryAfter == 0 {
			t.Error("not told when")
		}
		turns.give("a")
		all.Wait()
		turns.wantNone(t)
	})
}
