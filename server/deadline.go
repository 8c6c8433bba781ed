package server

import (
	"context"
	"sync"
	"time"
)

// deadline is a context with a deadline and, unlike those of package context, with
// no timer before somebody waits for it: nobody does for what is known already.
type deadline struct {
	context.Context
	at time.Time

	mu      sync.Mutex
	waiting context.Context // has the timer; nil before
	cancel  context.CancelFunc
	ended   bool
}

// patient is ctx with a deadline. The caller calls its end.
func patient(ctx context.Context, d time.Duration) *deadline {
	return &deadline{Context: ctx, at: time.Now().Add(d)}
}

func (d *deadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel != nil {
		d.cancel()
	}
	d.ended = true
}

func (d *deadline) timer() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting == nil {
		d.waiting, d.cancel = context.WithDeadline(d.Context, d.at)
		if d.ended {
			d.cancel()
		}
	}
	return d.waiting
}

// Deadline implements [context.Context].
func (d *deadline) Deadline() (time.Time, bool) {
	if at, ok := d.Context.Deadline(); ok && at.Before(d.at) {
		return at, true
	}
	return d.at, true
}

// Done implements [context.Context].
func (d *deadline) Done() <-chan struct{} { return d.timer().Done() }

// Err implements [context.Context].
func (d *deadline) Err() error { return d.timer().Err() }
