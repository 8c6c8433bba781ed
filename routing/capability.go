package routing

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// modeError is an error of a mode, which names the capabilities that the mode needs if
// the kernel did not permit an operation.
func modeError(mode, verb, capabilities string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("routing %s: cannot %s: the process needs %s: %w", mode, verb, capabilities, err)
	}
	return fmt.Errorf("routing %s: cannot %s: %w", mode, verb, err)
}
