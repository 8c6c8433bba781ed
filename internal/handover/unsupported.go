//go:build !linux

package handover

import "errors"

func inMemory(string) error { return errors.New("files in memory are supported only on Linux") }
