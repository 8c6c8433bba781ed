package tokens

import (
	"context"
	"sync"
	"time"
)

// tasks owns what outlives the request that started it: an upstream call goes on
// when its caller hangs up (Ruby's client does after 0.5 s and asks again), so
// that the next request finds its token.
type tasks struct {
	life    context.Context
	stop    context.CancelFunc
	timeout time.Duration // of one task

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

func newTasks(timeout time.Duration) *tasks {
	life, stop := context.WithCancel(context.Background())
	return &tasks{life: life, stop: stop, timeout: timeout}
}

// run runs f and returns when it has ended; after close it does nothing.
func (t *tasks) run(f func(context.Context)) {
	if !t.begin() {
		return
	}
	defer t.running.Done()
	ctx, cancel := context.WithTimeout(t.life, t.timeout)
	defer cancel()
	f(ctx)
}

func (t *tasks) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.running.Add(1)
	}
	return !t.closed
}

// close ends all tasks and returns when they have ended.
func (t *tasks) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.stop()
	t.running.Wait()
}
