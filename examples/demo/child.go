package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// child is a process that ends with its context. On Linux it also ends when this
// process ends or is killed.
type child struct {
	name string
	done chan struct{} // closed when the process has ended
	err  error         // of the process; valid after done is closed
}

// gracePeriod is the time between SIGTERM and SIGKILL.
const gracePeriod = 5 * time.Second

// startChild starts a process with exactly the environment env.
func startChild(ctx context.Context, env []string, stdout, stderr io.Writer, binary string, args ...string) (*child, error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = gracePeriod
	cmd.SysProcAttr = endWithParent()

	c := &child{name: filepath.Base(binary), done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// For Pdeathsig the parent is the thread that started the process (prctl(2)),
		// so the thread must not end first.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	return c, nil
}

// wait waits until the process has ended, and returns its error.
func (c *child) wait() error {
	<-c.done
	return c.err
}

// unexpectedEnd is the error for a process that has ended too early.
func (c *child) unexpectedEnd() error {
	if c.err == nil {
		return fmt.Errorf("%s ended unexpectedly", c.name)
	}
	return fmt.Errorf("%s ended unexpectedly: %w", c.name, c.err)
}
