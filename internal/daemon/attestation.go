package daemon

import (
	"errors"
	"log/slog"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/identity/attest"
	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/wellknown"
)

// attestation opens the kernel's proof of callers as the settings require.
func (s serve) attestation(registry prometheus.Registerer, log *slog.Logger) (*attest.Attestation, error) {
	destinations := []netip.AddrPort{
		netip.AddrPortFrom(netip.MustParseAddr(wellknown.MetadataIPv4), wellknown.MetadataPort),
		netip.AddrPortFrom(netip.MustParseAddr(wellknown.MetadataIPv6), wellknown.MetadataPort),
	}
	if own, err := netip.ParseAddrPort(s.Listen.Address); err == nil && own.Port() != 0 {
		destinations = append(destinations, own)
	}
	a, err := attest.Open(attest.OpenOptions{
		Policy: attest.Policy(s.Attestation.Policy), CgroupRoot: s.Attestation.CgroupRoot,
		Destinations: destinations, Log: log, Metrics: registry,
	})
	var root *attest.CgroupRootError
	if errors.As(err, &root) {
		return nil, config.FlagErrorf("cgroup-root", "give the folder below which the kubelet makes the cgroup kubepods", "%v", root.Err)
	}
	return a, err
}

// newModes registers the metric of an instance's routing mode and strongest proof.
func newModes(registry prometheus.Registerer) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "gme_modes",
		Help: "1 for the modes of this instance: its routing (ebpf, nftables, address, none) and its strongest proof of the calling pod (record, socket, address).",
	}, []string{"routing", "proof"})
	registry.MustRegister(g)
	return g
}
