// Package backoff answers one question: how long does a component wait before it
// retries a call to the API server?
//
// It must not know the call. Failures are logged and counted by the caller.
package backoff

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// attemptTimeout is the deadline of one attempt.
const attemptTimeout = 5 * time.Second

// Retry calls attempt, each time with a deadline of 5 s, until it returns nil or ctx
// ends. The delay grows from 0.5 s to 30 s, plus up to half of it at random.
func Retry(ctx context.Context, attempt func(context.Context) error) {
	delay := wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 7, Cap: 30 * time.Second}
	// Until fails only if ctx ends, which is the regular end of a component.
	_ = delay.DelayFunc().Until(ctx, true, true, func(ctx context.Context) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		return attempt(ctx) == nil, nil
	})
}
