package buildcache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Lock locks the file at path for one process at a time. The kernel releases the lock
// when the process ends, for whatever reason. waiting is called once if another
// process has the lock.
func Lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	file, err := TryLock(path)
	if err == nil && file == nil {
		waiting()
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for err == nil && file == nil {
			select {
			case <-ctx.Done():
				return nil, fmt.Errorf("wait for the lock %s: %w", path, context.Cause(ctx))
			case <-ticker.C:
				file, err = TryLock(path)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = file.Close() }, nil
}

// TryLock returns nil if another process has the lock. Closing the file releases it.
func TryLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return file, nil
	}
	if closing := file.Close(); !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), closing)
	}
	return nil, nil
}
