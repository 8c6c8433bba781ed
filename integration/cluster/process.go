package cluster

import (
	"context"
	"errors"
	"fmt"
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
	tailLines = 40                    // how much of a log an error shows
	pollEvery = 50 * time.Millisecond // how often something that was just started is asked
)

// launcher joins cgroups before it becomes the program, so that there is no
// moment in which a child could escape them.
const launcher = `for group in $1; do echo 0 >"$group/cgroup.procs" || exit 125; done; shift; exec "$@"`

// process is a program that runs until its cgroup is killed, or until this
// process ends, however it ends.
type process struct {
	name  string
	log   string // file with what it said
	os    *os.Process
	known atomic.Bool   // that it has ended: it was killed, or its end reported
	done  chan struct{} // closed when it has ended
	end   string        // how, readable after done
}

type start struct {
	name    string
	log     string   // a file; what is in it stays
	groups  []string // folders of the cgroups to join
	env     []string // all of it
	flags   uintptr  // namespaces to make
	command []string
}

func (s start) start() (*process, error) {
	output, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", launcher, "sh", strings.Join(s.groups, " ")}, s.command...)...)
	cmd.Dir = filepath.Dir(s.log)
	cmd.Env = s.env
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true, Cloneflags: s.flags}

	p := &process{name: s.name, log: s.log, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// To the kernel the parent is the thread that started the process, so
		// that thread has to live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		p.os = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait()
			p.end = cmd.ProcessState.String()
		}
	}()
	err = <-started
	if closing := output.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.name, err)
	}
	return p, nil
}

// ready returns when answers does, or the process ends, or ctx does.
func (p *process) ready(ctx context.Context, answers func(context.Context) error) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := answers(attempt)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-p.done:
			p.known.Store(true)
			return p.failed(fmt.Errorf("ended before it was ready: %s", p.end))
		case <-ctx.Done():
			return p.failed(fmt.Errorf("%w: %w", context.Cause(ctx), err))
		}
	}
}

// crashed says how the process ended if nobody wanted it to.
func (p *process) crashed() error {
	select {
	case <-p.done:
		if !p.known.Swap(true) {
			return p.failed(fmt.Errorf("ended on its own: %s", p.end))
		}
	default:
	}
	return nil
}

// failed adds the end of the log to err.
func (p *process) failed(err error) error {
	content, reading := os.ReadFile(p.log)
	if reading != nil {
		return fmt.Errorf("%s: %w", p.name, errors.Join(err, reading))
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return fmt.Errorf("%s: %w\nlast lines of its log:\n%s", p.name, err, strings.Join(last(lines, tailLines), "\n"))
}

func last(lines []string, n int) []string {
	return lines[max(0, len(lines)-n):]
}
