package main

import "syscall"

// endWithParent kills the child when the demo ends. The child's own process group
// keeps a terminal's Ctrl-C from it: the demo ends it.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
