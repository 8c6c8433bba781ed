//go:build !linux

package process

import "syscall"

// endWithParent has no equivalent here: a test that crashes leaves its programs.
func endWithParent(*syscall.SysProcAttr) {}

// AwaitStop does nothing here.
func (*Process) AwaitStop() error { return nil }
