//go:build !linux

package main

import "syscall"

// endWithParent has no equivalent here: a demo that is killed leaves its children.
func endWithParent() *syscall.SysProcAttr { return nil }
