package kubernetes

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
)

// tailLines is how much of a log an error shows.
const tailLines = 40

// process is a program that runs until kill, or until this process ends,
// however it ends.
type process struct {
	name  string
	log   string // file with what it said
	os    *os.Process
	known atomic.Bool   // that it has ended: it was killed, or its end reported
	done  chan struct{} // closed when it has ended
	end   string        // how, readable after done
}

// startProcess starts binary in the folder of its log, with nothing of the
// caller's environment: etcd takes flags from there.
func startProcess(name, log, binary string, args ...string) (*process, error) {
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	folder := filepath.Dir(log)
	cmd := exec.Command(binary, args...)
	cmd.Dir = folder
	cmd.Env = []string{"HOME=" + folder, "TMPDIR=" + folder}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = endWithParent()

	p := &process{name: name, log: log, done: make(chan struct{})}
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
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// kill ends the process at once, also a paused one, and returns when it has ended.
func (p *process) kill() error {
	p.known.Store(true)
	err := p.os.Kill()
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", p.name, err)
	}
	<-p.done
	return nil
}

func (p *process) signal(s syscall.Signal) error {
	if err := p.os.Signal(s); err != nil {
		return p.failed(fmt.Errorf("%s: %w", s, err))
	}
	return nil
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
