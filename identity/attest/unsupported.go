//go:build !linux

package attest

import (
	"errors"
	"net"
	"net/netip"
)

// ErrUnsupported is returned on other systems than Linux.
var ErrUnsupported = errors.New("attestation by the kernel needs Linux")

// Cgroups needs Linux.
type Cgroups struct{}

// OpenCgroups returns [ErrUnsupported].
func OpenCgroups(string) (*Cgroups, error) { return nil, ErrUnsupported }

// Kubepods is empty.
func (*Cgroups) Kubepods() string { return "" }

// Probe returns [ErrUnsupported].
func (*Cgroups) Probe() error { return ErrUnsupported }

// Close does nothing.
func (*Cgroups) Close() error { return nil }

// Recorder needs Linux.
type Recorder struct{}

// NewRecorder returns [ErrUnsupported].
func NewRecorder(string) (*Recorder, error) { return nil, ErrUnsupported }

// Add returns [ErrUnsupported].
func (*Recorder) Add(netip.AddrPort) error { return ErrUnsupported }

// Close does nothing.
func (*Recorder) Close() error { return nil }

// Attestor attests nothing: callers are identified by their addresses alone.
type Attestor struct{}

// New makes an attestor of the policy ip, and fails for any other.
func New(o Options) (*Attestor, error) {
	if o.Policy != IP {
		return nil, ErrUnsupported
	}
	return &Attestor{}, nil
}

// Listener returns l.
func (*Attestor) Listener(l net.Listener) net.Listener { return l }

// Close does nothing.
func (*Attestor) Close() {}
