package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	tailLines      = 40                    // of the log, in an error
	pollInterval   = 25 * time.Millisecond // between two probes of a program that is starting
	attemptTimeout = 5 * time.Second       // of one probe
)

// Process is a program that runs until [Process.Kill], or until this process ends,
// for whatever reason.
type Process struct {
	name    string
	log     string // path of the file with its output
	os      *os.Process
	settled atomic.Bool   // its end is expected, or was reported
	done    chan struct{} // closed when it has ended
	state   string        // how it ended; readable after done
}

// Start starts cmd in the folder of the log, to which its output is appended.
func Start(name, log string, cmd *exec.Cmd) (*Process, error) {
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd.Dir = filepath.Dir(log)
	cmd.Stdout, cmd.Stderr = output, output
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	endWithParent(cmd.SysProcAttr)

	p := &Process{name: name, log: log, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel takes the thread that started the process for its parent, so
		// that thread must not end before the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		p.os = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait()
			p.state = cmd.ProcessState.String()
		}
	}()
	err = <-started
	if closing := output.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// Name is the name that the program was started with.
func (p *Process) Name() string { return p.name }

// Pid is the process's id.
func (p *Process) Pid() int { return p.os.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExpectEnd makes the end of the process no crash.
func (p *Process) ExpectEnd() { p.settled.Store(true) }

// Ready returns nil when the probe does, and an error when the process ends or ctx does.
func (p *Process) Ready(ctx context.Context, probe func(context.Context) error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := probe(attempt)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-p.done:
			p.ExpectEnd()
			return p.WithLog(fmt.Errorf("ended before it was ready: %s", p.state))
		case <-ctx.Done():
			return p.WithLog(fmt.Errorf("%w: %w", context.Cause(ctx), err))
		}
	}
}

// Kill ends the process at once, even if it is paused, and returns when it has ended.
func (p *Process) Kill() error {
	p.ExpectEnd()
	err := p.os.Kill()
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.done
	return nil
}

// Signal sends a signal.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.os.Signal(s); err != nil {
		return p.WithLog(fmt.Errorf("%s: %w", s, err))
	}
	return nil
}

// Crashed returns how the process ended if its end was not expected. It reports a
// crash once.
func (p *Process) Crashed() error {
	select {
	case <-p.done:
		if !p.settled.Swap(true) {
			return p.WithLog(fmt.Errorf("ended on its own: %s", p.state))
		}
	default:
	}
	return nil
}

// WithLog adds the program's name and the end of its log to err.
func (p *Process) WithLog(err error) error {
	content, reading := os.ReadFile(p.log)
	if reading != nil {
		return fmt.Errorf("%s: %w", p.name, errors.Join(err, reading))
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	tail := lines[max(0, len(lines)-tailLines):]
	return fmt.Errorf("%s: %w\nlast lines of its log:\n%s", p.name, err, strings.Join(tail, "\n"))
}

// Runs reports whether a process exists and is not a zombie that waits for its parent.
func Runs(pid int) (bool, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "stat"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return false, nil
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z"), err
}
