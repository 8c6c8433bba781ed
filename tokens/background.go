package tokens

import (
	"context"
	"sync"
	"time"
)

// background owns the work that outlives the request that started it: an upstream call
// goes on when its caller hangs up, so the next request finds its token. Ruby's client
// hangs up after 0.5 s and retries.
type background struct {
	ctx     context.Context // canceled by close
	cancel  context.CancelFunc
	timeout time.Duration // of one task

	mu      sync.Mutex
	closed  bool // guarded by mu
	running sync.WaitGroup
}

func newBackground(timeout time.Duration) *background {
	ctx, cancel := context.WithCancel(context.Background())
	return &background{ctx: ctx, cancel: cancel, timeout: timeout}
}

// run calls f and returns when f has returned. After close it does nothing.
func (b *background) run(f func(context.Context)) {
	if !b.begin() {
		return
	}
	defer b.running.Done()
	ctx, cancel := context.WithTimeout(b.ctx, b.timeout)
	defer cancel()
	f(ctx)
}

func (b *background) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.running.Add(1)
	}
	return !b.closed
}

// close cancels all tasks and returns when they have ended.
func (b *background) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cancel()
	b.running.Wait()
}
