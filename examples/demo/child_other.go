//go:build !linux

package main

import "syscall"

// endWithParent does nothing: outside of Linux the children of a killed demo stay.
func endWithParent() *syscall.SysProcAttr { return nil }
