package tokens

import (
	"context"
	"errors"
	"time"
)

// attemptTimeout ends the first attempt of a call. Google answers within a second; a
// connection that is silent for longer is usually dead.
const attemptTimeout = 4 * time.Second

// callUpstream makes one upstream call, or two if the first attempt times out, and
// measures each. f returns nil or an [*Error], and has to be idempotent.
func callUpstream(ctx context.Context, m *metrics, name string, f func(context.Context) error) error {
	attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
	err := m.measure(name, func() error { return f(attempt) })
	timedOut := errors.Is(attempt.Err(), context.DeadlineExceeded)
	cancel()
	if err == nil || permanent(err) || !timedOut || ctx.Err() != nil {
		return err
	}
	return m.measure(name, func() error { return f(ctx) })
}
