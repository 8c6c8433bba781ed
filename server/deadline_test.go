package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := patient(t.Context(), time.Second)
		defer ctx.end()
		if err := ctx.Err(); err != nil {
			t.Errorf("at once: %v", err)
		}
		start := time.Now()
		<-ctx.Done()
		if took := time.Since(start); took != time.Second || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Errorf("after %s: %v", took, ctx.Err())
		}
	})
}

// The time runs from the start, not from when somebody first waits.
func TestPatienceRunsBeforeAnybodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := patient(t.Context(), time.Second)
		defer ctx.end()
		<-time.After(700 * time.Millisecond)
		start := time.Now()
		<-ctx.Done()
		if took := time.Since(start); took != 300*time.Millisecond {
			t.Errorf("after %s", took)
		}
	})
}

func TestPatienceEndsWithItsParentAndWhenItIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(t.Context())
		ctx := patient(parent, time.Hour)
		defer ctx.end()
		cancel()
		<-ctx.Done()
		if !errors.Is(ctx.Err(), context.Canceled) {
			t.Error(ctx.Err())
		}

		for name, wait := range map[string]bool{"waited": true, "nobody waited": false} {
			ended := patient(t.Context(), time.Hour)
			if wait {
				ended.Done()
			}
			ended.end()
			<-ended.Done()
			if !errors.Is(ended.Err(), context.Canceled) {
				t.Errorf("%s: %v", name, ended.Err())
			}
		}
	})
}

func TestPatienceIsNoLongerThanItsParents(t *testing.T) {
	parent, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ctx := patient(parent, time.Hour)
	defer ctx.end()
	got, _ := ctx.Deadline()
	if want, _ := parent.Deadline(); !got.Equal(want) {
		t.Errorf("it ends at %s, its parent at %s", got, want)
	}
}
