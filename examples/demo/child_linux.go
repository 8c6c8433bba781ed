package main

import "syscall"

// endWithParent also keeps a terminal's Ctrl-C from the child: it is the demo
// that ends it.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
