package routing

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/internal/wellknown"
)

// Options is what the modes need to know of a node.
type Options struct {
	Interface string // gets the address in the mode address
	BPFFS     string // the folder where the node's bpffs is mounted
	Kubepods  string // the folder of the cgroup of all pods; empty if it was not found
	Repaired  *prometheus.CounterVec
	Log       *slog.Logger
}

// Choose returns the mode to use for a server that listens at an address and port, and
// the reason. It returns the given mode, except for [ModeAuto]: then it returns the first
// mode for which the kernel has everything, and an error if there is none.
func (o Options) Choose(mode string, listen netip.AddrPort) (chosen, reason string, err error) {
	if mode != ModeAuto {
		return mode, "--routing is set", nil
	}
	if isMetadataAddress(listen) {
		return ModeAddress, "--listen is the metadata address itself", nil
	}
	ebpfErr := o.ebpf(listen).Probe()
	if o.Kubepods == "" {
		ebpfErr = errors.New("the cgroup of all pods is not known, see --cgroup-root")
	}
	if ebpfErr == nil {
		return ModeEBPF, "the node permits it", nil
	}
	nftablesErr := o.nftables(listen).Probe()
	if nftablesErr == nil {
		return ModeNFTables, "no eBPF: " + ebpfErr.Error(), nil
	}
	return "", "", fmt.Errorf("--routing=auto: this node supports no mode; use --routing=address with --listen=%s:%d: %w",
		wellknown.MetadataIPv4, wellknown.MetadataPort, errors.Join(ebpfErr, nftablesErr))
}

// Router returns the router of a mode to a server that listens at the target.
func (o Options) Router(mode string, target netip.AddrPort) Router {
	switch mode {
	case ModeEBPF:
		return o.ebpf(target)
	case ModeNFTables:
		return o.nftables(target)
	case ModeAddress:
		return o.address()
	}
	return None{}
}

// RemoveOthers removes what other modes have left, which would still lead elsewhere. The
// router is installed by now. The guard that two modes share stays for them without
// a gap. The mode none removes nothing: it needs no capability.
func (o Options) RemoveOthers(router Router) error {
	if router.String() == ModeNone {
		return nil
	}
	for _, other := range o.all() {
		if other.String() == router.String() {
			continue
		}
		if err := other.Remove(); err != nil {
			o.Log.Warn("what another mode of routing may have left cannot be removed", "mode", other.String(), "error", err)
		}
	}
	if router.String() == ModeAddress {
		return removeGuard()
	}
	return nil
}

// RemoveAll removes every trace of every mode from the node.
func (o Options) RemoveAll() error {
	errs := []error{removeGuard()}
	for _, router := range o.all() {
		errs = append(errs, router.Remove())
	}
	return errors.Join(errs...)
}

// all returns a router of each mode that changes the node, to be removed.
func (o Options) all() []Router {
	return []Router{o.ebpf(netip.AddrPort{}), o.nftables(netip.AddrPort{}), o.address()}
}

func (o Options) address() Address {
	return Address{Interface: o.Interface, IP: net.ParseIP(wellknown.MetadataIPv4)}
}

func (o Options) ebpf(target netip.AddrPort) EBPF {
	return EBPF{Cgroup: o.Kubepods, Pins: filepath.Join(o.BPFFS, "gke-metadata-emulator"), Target: target}
}

func (o Options) nftables(target netip.AddrPort) *NFTables {
	return &NFTables{Cgroup: o.Kubepods, Target: target, Log: o.Log, Repaired: o.Repaired}
}

func isMetadataAddress(a netip.AddrPort) bool {
	return a == netip.AddrPortFrom(netip.MustParseAddr(wellknown.MetadataIPv4), wellknown.MetadataPort)
}
