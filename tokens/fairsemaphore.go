package tokens

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"gke-metadata-emulator/identity"
)

// fairSemaphore is a semaphore whose slots go to pods in turn. The one of x/sync is
// first come, first served, so one pod could take all slots.
type fairSemaphore struct {
	slots, slotsPerPod, waitingPerPod int
	metrics                           *metrics

	mu      sync.Mutex
	running int                  // guarded by mu
	pods    map[string]*podQueue // by UID, those that run or wait; guarded by mu
	waiting []*podQueue          // those that wait, the next one first; guarded by mu
}

// podQueue is guarded by the semaphore's mutex.
type podQueue struct {
	running int
	waiters []chan struct{} // each is closed when it gets its slot
}

func newFairSemaphore(slots, slotsPerPod, waitingPerPod int, m *metrics) *fairSemaphore {
	return &fairSemaphore{slots: slots, slotsPerPod: slotsPerPod, waitingPerPod: waitingPerPod, metrics: m, pods: map[string]*podQueue{}}
}

// acquire waits for a slot until ctx ends.
func (s *fairSemaphore) acquire(ctx context.Context, w identity.Workload) error {
	s.mu.Lock()
	pod := s.pods[w.Pod.UID]
	if pod == nil {
		pod = &podQueue{}
		s.pods[w.Pod.UID] = pod
	}
	if len(pod.waiters) >= s.waitingPerPod {
		s.mu.Unlock()
		s.metrics.rejected.WithLabelValues("full").Inc()
		return &Error{Kind: Unavailable, uncached: true, RetryAfter: time.Second, Message: fmt.Sprintf(
			"Pod %s/%s requests more than %d different tokens at once; request fewer, or retry later", w.Pod.Namespace, w.Pod.Name, s.waitingPerPod)}
	}
	slot := make(chan struct{})
	pod.waiters = append(pod.waiters, slot)
	if len(pod.waiters) == 1 {
		s.waiting = append(s.waiting, pod)
	}
	s.dispatch()
	s.mu.Unlock()

	select {
	case <-slot:
		return nil
	default:
	}
	s.metrics.mintsWaiting.Inc()
	defer s.metrics.mintsWaiting.Dec()
	select {
	case <-slot:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(pod.waiters, slot); i >= 0 {
		pod.waiters = slices.Delete(pod.waiters, i, i+1)
		s.removeIfIdle(w.Pod.UID)
	} else { // the slot came as ctx ended
		s.releaseLocked(w.Pod.UID)
	}
	s.metrics.rejected.WithLabelValues("late").Inc()
	return &Error{Kind: Unavailable, uncached: true, RetryAfter: time.Second, Err: ctx.Err(), Message: fmt.Sprintf(
		"The metadata server is already minting %d tokens, and the request of pod %s/%s was not started in time; retry later", s.slots, w.Pod.Namespace, w.Pod.Name)}
}

// release returns a slot of the pod.
func (s *fairSemaphore) release(podUID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseLocked(podUID)
}

func (s *fairSemaphore) releaseLocked(podUID string) {
	s.running--
	s.pods[podUID].running--
	s.metrics.mints.Dec()
	s.dispatch()
	s.removeIfIdle(podUID)
}

// dispatch hands out the free slots: one to each waiting pod, then another to each.
func (s *fairSemaphore) dispatch() {
	for skipped := 0; s.running < s.slots && skipped < len(s.waiting); {
		pod := s.waiting[0]
		s.waiting = s.waiting[1:]
		if pod.running >= s.slotsPerPod {
			s.waiting = append(s.waiting, pod)
			skipped++
			continue
		}
		skipped = 0
		s.running++
		pod.running++
		s.metrics.mints.Inc()
		close(pod.waiters[0])
		if pod.waiters = pod.waiters[1:]; len(pod.waiters) > 0 {
			s.waiting = append(s.waiting, pod)
		}
	}
}

// removeIfIdle forgets a pod that neither runs nor waits.
func (s *fairSemaphore) removeIfIdle(podUID string) {
	pod := s.pods[podUID]
	if len(pod.waiters) > 0 {
		return
	}
	if i := slices.Index(s.waiting, pod); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
	if pod.running == 0 {
		delete(s.pods, podUID)
	}
}
