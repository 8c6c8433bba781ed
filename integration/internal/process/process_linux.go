package process

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

func endWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGKILL }

// AwaitStop returns when all threads have stopped after SIGSTOP. On a busy machine
// they go on for a while.
func (p *Process) AwaitStop() error {
	for {
		err := unix.Waitid(unix.P_PID, p.os.Pid, nil, unix.WSTOPPED, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
