package routing

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The modes, as users write them.
const (
	ModeAuto     = "auto"
	ModeEBPF     = "ebpf"
	ModeNFTables = "nftables"
	ModeAddress  = "address"
	ModeNone     = "none"
)

// Router is a mode that brings packets for the metadata address to the server. Its
// name is that of the mode.
type Router interface {
	fmt.Stringer
	Install() error // no error if it is installed already
	Remove() error  // no error if it is not installed
}

// None leaves the node as it is. Pods find the server by GCE_METADATA_HOST.
type None struct{}

// Install does nothing.
func (None) Install() error { return nil }

// Remove does nothing.
func (None) Remove() error { return nil }

func (None) String() string { return ModeNone }

const (
	capabilityNetAdmin = "the capability NET_ADMIN"
	capabilitiesBPF    = "the capabilities BPF and NET_ADMIN"
)

// modeError is an error of a mode. It names what the mode needs if the kernel did not
// permit the operation.
func modeError(mode, operation, needs string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("routing %s: cannot %s: the process needs %s: %w", mode, operation, needs, err)
	}
	return fmt.Errorf("routing %s: cannot %s: %w", mode, operation, err)
}
