package clients

import "syscall"

// ownMounts makes a process have mounts of its own, be the first of its group, and
// end with this process.
func ownMounts() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
