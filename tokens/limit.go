package tokens

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"gke-metadata-emulator/identity"
)

const (
	maxMints        = 32  // at a time
	maxMintsOfPod   = 4   // of them
	maxWaitingOfPod = 128 // a pod that asks for more at once is told to come back
)

// limit bounds how many tokens are minted at a time. Where more are wanted the pods
// get their turns one after the other, however much one of them asks for.
type limit struct {
	next  Source
	turns *turns
}

// AccessToken implements [Source].
func (l limit) AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	if err := l.turns.take(ctx, w); err != nil {
		return Token{}, err
	}
	defer l.turns.give(w.Pod.UID)
	return l.next.AccessToken(ctx, w, scopes)
}

// IDToken implements [Source].
func (l limit) IDToken(ctx context.Context, w identity.Workload, request IDTokenRequest) (Token, error) {
	if err := l.turns.take(ctx, w); err != nil {
		return Token{}, err
	}
	defer l.turns.give(w.Pod.UID)
	return l.next.IDToken(ctx, w, request)
}

// turns is a semaphore that is fair to pods.
type turns struct {
	all, ofPod, waitingOfPod int
	metrics                  *metrics

	mu      sync.Mutex
	running int
	pods    map[string]*turnsOfPod // those that run or wait
	waiting []*turnsOfPod          // those that wait, who is next first
}

type turnsOfPod struct {
	running int
	queue   []chan struct{}
}

func newTurns(all, ofPod, waitingOfPod int, m *metrics) *turns {
	return &turns{all: all, ofPod: ofPod, waitingOfPod: waitingOfPod, metrics: m, pods: map[string]*turnsOfPod{}}
}

// take waits for a turn, until ctx ends.
func (t *turns) take(ctx context.Context, w identity.Workload) error {
	t.mu.Lock()
	pod := t.pods[w.Pod.UID]
	if pod == nil {
		pod = &turnsOfPod{}
		t.pods[w.Pod.UID] = pod
	}
	if len(pod.queue) >= t.waitingOfPod {
		t.mu.Unlock()
		t.metrics.turnedAway.WithLabelValues("full").Inc()
		return &Error{Kind: Unavailable, forget: true, RetryAfter: time.Second, Message: fmt.Sprintf(
			"Pod %s/%s asks for more than %d different tokens at once: ask for fewer, or again later", w.Pod.Namespace, w.Pod.Name, t.waitingOfPod)}
	}
	turn := make(chan struct{})
	pod.queue = append(pod.queue, turn)
	if len(pod.queue) == 1 {
		t.waiting = append(t.waiting, pod)
	}
	t.next()
	t.mu.Unlock()

	select {
	case <-turn:
		return nil
	default:
	}
	t.metrics.mintsWaiting.Inc()
	defer t.metrics.mintsWaiting.Dec()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(pod.queue, turn); i >= 0 {
		pod.queue = slices.Delete(pod.queue, i, i+1)
		t.tidy(w.Pod.UID)
	} else { // it came at the same time
		t.given(w.Pod.UID)
	}
	t.metrics.turnedAway.WithLabelValues("late").Inc()
	return &Error{Kind: Unavailable, forget: true, RetryAfter: time.Second, Err: ctx.Err(), Message: fmt.Sprintf(
		"The metadata server is minting %d tokens, and that of pod %s/%s had no turn in time: ask again", t.all, w.Pod.Namespace, w.Pod.Name)}
}

// give gives a turn back.
func (t *turns) give(pod string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.given(pod)
}

func (t *turns) given(pod string) {
	t.running--
	t.pods[pod].running--
	t.metrics.mints.Dec()
	t.next()
	t.tidy(pod)
}

// next hands out what turns there are: to each pod one, then to each another.
func (t *turns) next() {
	for passed := 0; t.running < t.all && passed < len(t.waiting); {
		pod := t.waiting[0]
		t.waiting = t.waiting[1:]
		if pod.running >= t.ofPod {
			t.waiting = append(t.waiting, pod)
			passed++
			continue
		}
		passed = 0
		t.running++
		pod.running++
		t.metrics.mints.Inc()
		close(pod.queue[0])
		if pod.queue = pod.queue[1:]; len(pod.queue) > 0 {
			t.waiting = append(t.waiting, pod)
		}
	}
}

// tidy forgets a pod that neither runs nor waits.
func (t *turns) tidy(uid string) {
	pod := t.pods[uid]
	if len(pod.queue) > 0 {
		return
	}
	if i := slices.Index(t.waiting, pod); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	}
	if pod.running == 0 {
		delete(t.pods, uid)
	}
}
