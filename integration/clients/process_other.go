//go:build !linux

package clients

import "syscall"

// ownMounts has nothing to offer: there are no network namespaces either, so that
// no process is ever started.
func ownMounts() *syscall.SysProcAttr { return nil }
