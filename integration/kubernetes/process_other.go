//go:build !linux

package kubernetes

import "syscall"

// endWithParent has no equivalent here: a test that crashes leaves its cluster.
func endWithParent() *syscall.SysProcAttr { return nil }

func (*process) awaitStop() error { return nil }
