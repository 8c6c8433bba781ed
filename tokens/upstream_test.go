package tokens

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Only an attempt that times out is followed by a second one.
func TestUpstream_SilentAttemptIsRepeatedOnce(t *testing.T) {
	for name, test := range map[string]struct {
		first    error // nil: the attempt hangs
		deadline time.Duration
		attempts int
		took     time.Duration
	}{
		"silent":               {nil, time.Minute, 2, attemptTimeout},
		"silent, no time left": {nil, attemptTimeout / 2, 1, attemptTimeout / 2},
		"transient error":      {errDown, time.Minute, 1, 0},
		"permanent error":      {&Error{Kind: Denied}, time.Minute, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), test.deadline)
				defer cancel()
				start, attempts := time.Now(), 0
				err := callUpstream(ctx, newMetrics(prometheus.NewRegistry()), "test", func(ctx context.Context) error {
					attempts++
					switch {
					case attempts > 1:
						return nil
					case test.first != nil:
						return test.first
					}
					<-ctx.Done()
					return unreachable("test", "upstream", ctx.Err())
				})
				if failed := test.attempts == 1; attempts != test.attempts || (err != nil) != failed {
					t.Errorf("%d attempts (%v), want %d", attempts, err, test.attempts)
				}
				if took := time.Since(start); took != test.took {
					t.Errorf("it took %s, want %s", took, test.took)
				}
			})
		})
	}
}
