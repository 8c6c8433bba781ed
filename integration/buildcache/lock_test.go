package buildcache

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
)

func TestLock_AdmitsOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), path, func() { t.Error("waits for a free lock") })
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Lock(ctx, path, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting, canceled: error is %v", err)
	}

	waits := make(chan struct{})
	var second sync.WaitGroup
	second.Go(func() {
		unlock, err := Lock(t.Context(), path, func() { close(waits) })
		if err != nil {
			t.Error(err)
			return
		}
		unlock()
	})
	<-waits
	unlock()
	second.Wait()
}
