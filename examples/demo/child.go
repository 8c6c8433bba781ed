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

// child is a process that ends when its context does, and when this process
// ends, however it ends.
type child struct {
	name string
	done chan struct{} // closed when it has ended
	end  error         // how, readable after done
}

// grace is how long a child has to end when it is asked to.
const grace = 5 * time.Second

// startChild starts a process with the environment env and nothing else.
func startChild(ctx context.Context, env []string, stdout, stderr io.Writer, binary string, args ...string) (*child, error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	cmd.SysProcAttr = endWithParent()

	c := &child{name: filepath.Base(binary), done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// To the kernel the parent is the thread that started the process, so
		// that thread has to live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			c.end = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	return c, nil
}

// wait returns when the process has ended, and says how.
func (c *child) wait() error {
	<-c.done
	return c.end
}

// ended says how the process ended while nobody wanted it to.
func (c *child) ended() error {
	if c.end == nil {
		return fmt.Errorf("%s ended on its own", c.name)
	}
	return fmt.Errorf("%s ended on its own: %w", c.name, c.end)
}
