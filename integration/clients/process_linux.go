package clients

import "syscall"

// ownMounts gives a process a mount namespace, makes it the leader of a process group, and
// lets it end with this process.
func ownMounts() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
