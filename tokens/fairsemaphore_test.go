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

func newTestSemaphore(slots, slotsPerPod, waitingPerPod int) *fairSemaphore {
	return newFairSemaphore(slots, slotsPerPod, waitingPerPod, newMetrics(prometheus.NewRegistry()))
}

// wantEmpty checks that the semaphore has forgotten all pods.
func (s *fairSemaphore) wantEmpty(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != 0 || len(s.pods) != 0 || len(s.waiting) != 0 {
		t.Errorf("%d run, %d pods are known, %d wait", s.running, len(s.pods), len(s.waiting))
	}
}

func TestFairSemaphore_CanceledWaiterYieldsToNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		semaphore := newTestSemaphore(1, 1, 10)
		check(t, semaphore.acquire(t.Context(), podNamed("a")))
		ctx, cancel := context.WithCancel(t.Context())
		canceled := make(chan error)
		go func() { canceled <- semaphore.acquire(ctx, podNamed("b")) }()
		synctest.Wait()
		acquired := make(chan error)
		go func() { acquired <- semaphore.acquire(t.Context(), podNamed("c")) }()
		synctest.Wait()
		cancel()
		err := <-canceled
		wantError(t, err, Unavailable, "the request of pod shop/b was not started in time")
		if !errors.Is(err, context.Canceled) {
			t.Error("the cause is lost")
		}
		semaphore.release("a")
		check(t, <-acquired)
		semaphore.release("c")
		semaphore.wantEmpty(t)
	})
}

func TestFairSemaphore_CancellationLosesNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		semaphore := newTestSemaphore(3, 2, 100)
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				pod := podNamed(string(rune('a' + i%7)))
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%13)*time.Millisecond)
				defer cancel()
				if semaphore.acquire(ctx, pod) == nil {
					time.Sleep(time.Duration(i%5) * time.Millisecond) // ends while others are canceled
					semaphore.release(pod.Pod.UID)
				}
			})
		}
		all.Wait()
		semaphore.wantEmpty(t)
		for range 3 {
			check(t, semaphore.acquire(t.Context(), podNamed("a"+time.Now().String())))
			time.Sleep(time.Nanosecond)
		}
	})
}

func TestFairSemaphore_PodsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		semaphore := newTestSemaphore(1, 1, 100)
		var mu sync.Mutex
		var order string
		var all sync.WaitGroup
		for _, pod := range []string{"a", "a", "a", "a", "b", "c", "b"} {
			all.Go(func() {
				check(t, semaphore.acquire(t.Context(), podNamed(pod)))
				mu.Lock()
				order += pod
				mu.Unlock()
				time.Sleep(time.Second)
				semaphore.release(pod)
			})
			synctest.Wait()
		}
		all.Wait()
		if order != "aabcaba" {
			t.Errorf("slots went to %s", order)
		}
		semaphore.wantEmpty(t)
	})
}

func TestFairSemaphore_FullQueueIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		semaphore := newTestSemaphore(1, 1, 2)
		check(t, semaphore.acquire(t.Context(), podNamed("a")))
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() { check(t, semaphore.acquire(t.Context(), podNamed("a"))); semaphore.release("a") })
		}
		synctest.Wait()
		e := wantError(t, semaphore.acquire(t.Context(), podNamed("a")), Unavailable, "Pod shop/a requests more than 2 different tokens at once")
		if e.RetryAfter == 0 {
			t.Error("no Retry-After")
		}
		semaphore.release("a")
		all.Wait()
		semaphore.wantEmpty(t)
	})
}
