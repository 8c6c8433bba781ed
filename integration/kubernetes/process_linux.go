package kubernetes

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// awaitStop returns when all threads have stopped: the signal alone is not heeded at
// once on a busy machine.
func (p *process) awaitStop() error {
	for {
		err := unix.Waitid(unix.P_PID, p.os.Pid, nil, unix.WSTOPPED, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
