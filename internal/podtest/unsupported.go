//go:build !linux

package podtest

// Main does nothing: only Linux has pods.
func Main() {}
