//go:build !linux

package podtest

// Main does nothing: pods exist only on Linux.
func Main() {}
