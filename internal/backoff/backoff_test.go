package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Retry must not outlive the component that calls it.
func TestRetry_EndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	Retry(ctx, func(context.Context) error {
		calls++
		cancel()
		return errors.New("failed")
	})
	if calls != 1 {
		t.Errorf("%d calls, want 1", calls)
	}
}

func TestRetry_GivesEachAttemptADeadlineAndWaitsLongerEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var starts []time.Time
		Retry(t.Context(), func(ctx context.Context) error {
			starts = append(starts, time.Now())
			if len(starts) == 10 {
				return nil
			}
			<-ctx.Done()
			if took := time.Since(starts[len(starts)-1]); took != attemptTimeout {
				t.Errorf("attempt %d was cut off after %s, want %s", len(starts), took, attemptTimeout)
			}
			return ctx.Err()
		})
		shortest := []time.Duration{500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000}
		for i, least := range shortest {
			least *= time.Millisecond
			if delay := starts[i+1].Sub(starts[i]) - attemptTimeout; delay < least || delay > least*3/2 {
				t.Errorf("delay %d is %s, want %s to %s", i+1, delay, least, least*3/2)
			}
		}
	})
}
