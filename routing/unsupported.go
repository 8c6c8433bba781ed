//go:build !linux

package routing

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
)

// ErrUnsupported is returned on other systems than Linux.
var ErrUnsupported = errors.New("routing by the kernel needs Linux")

// EBPF needs Linux.
type EBPF struct {
	Cgroup string
	Pins   string
	Target netip.AddrPort
}

func (EBPF) String() string { return ModeEBPF }

// Probe returns [ErrUnsupported].
func (EBPF) Probe() error { return ErrUnsupported }

// Install returns [ErrUnsupported].
func (EBPF) Install() error { return ErrUnsupported }

// Remove does nothing.
func (EBPF) Remove() error { return nil }

// NFTables needs Linux.
type NFTables struct {
	Cgroup   string
	Target   netip.AddrPort
	Log      *slog.Logger
	Repaired *prometheus.CounterVec
}

func (*NFTables) String() string { return ModeNFTables }

// Probe returns [ErrUnsupported].
func (*NFTables) Probe() error { return ErrUnsupported }

// Install returns [ErrUnsupported].
func (*NFTables) Install() error { return ErrUnsupported }

// Keep returns [ErrUnsupported].
func (*NFTables) Keep(context.Context) error { return ErrUnsupported }

// Remove does nothing.
func (*NFTables) Remove() error { return nil }

func removeGuard() error { return nil }
