package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/identity/attest"
	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/wellknown"
)

// attestation identifies callers with the kernel. It owns the kernel resources in use.
type attestation struct {
	*attest.Attestor
	cgroups *attest.Cgroups  // nil if there are none
	records *attest.Recorder // nil if the kernel records nothing
	mode    string           // record, socket, address: the strongest proof there is
}

// attestation opens the strongest means that the node permits. A missing one is logged,
// or is an error with --attestation=require.
func (s serve) attestation(registry prometheus.Registerer, log *slog.Logger) (*attestation, error) {
	a := &attestation{mode: "address"}
	policy := attest.Policy(s.Attestation.Policy)
	var missing error
	a.cgroups, missing = attest.OpenCgroups(s.Attestation.CgroupRoot)
	if missing != nil && s.Attestation.CgroupRoot != "" {
		return nil, config.FlagErrorf("cgroup-root", "give the folder below which the kubelet makes the cgroup kubepods", "%v", missing)
	}
	if missing == nil && policy != attest.IP {
		missing = a.open(s.Listen.Address)
	}
	switch {
	case missing != nil && policy == attest.Require:
		return nil, errors.Join(fmt.Errorf("--attestation=require: %w; see docs/routing-modes.md", missing), a.close())
	case missing != nil && policy == attest.Prefer:
		log.Warn("the kernel cannot prove which pod calls, so pods are identified by their addresses", "have", a.mode, "reason", missing)
	}
	if a.mode == "address" {
		policy = attest.IP
	}
	var err error
	a.Attestor, err = attest.New(attest.Options{Policy: policy, Cgroups: a.cgroups, Records: a.records, Log: log, Metrics: registry})
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	log.Info("attestation", "policy", s.Attestation.Policy, "proof", a.mode)
	return a, nil
}

// open finds the strongest proof. The error is the reason why no stronger one is available.
func (a *attestation) open(listen string) error {
	if err := a.cgroups.Probe(); err != nil {
		return err
	}
	a.mode = "socket"
	var err error
	if a.records, err = attest.NewRecorder(a.cgroups.Kubepods()); err != nil {
		return err
	}
	a.mode = "record"
	to := []netip.AddrPort{netip.MustParseAddrPort(wellknown.MetadataIPv4 + ":80"), netip.MustParseAddrPort("[fd20:ce::254]:80")}
	if own, err := netip.ParseAddrPort(listen); err == nil && own.Port() != 0 {
		to = append(to, own) // from before the first connection
	}
	for _, destination := range to {
		if err := a.watch(destination); err != nil {
			return err
		}
	}
	return nil
}

// watch lets connections to an address be noted by the kernel.
func (a *attestation) watch(to netip.AddrPort) error {
	if a.records == nil {
		return nil
	}
	return a.records.Add(to)
}

// kubepods returns the cgroup of all pods, or "" if it was not found.
func (a *attestation) kubepods() string {
	if a.cgroups == nil {
		return ""
	}
	return a.cgroups.Kubepods()
}

func (a *attestation) close() error {
	if a.Attestor != nil {
		a.Attestor.Close()
	}
	var errs []error
	if a.records != nil {
		errs = append(errs, a.records.Close())
	}
	if a.cgroups != nil {
		errs = append(errs, a.cgroups.Close())
	}
	return errors.Join(errs...)
}

// newModes is the metric of how an instance works.
func newModes(registry prometheus.Registerer) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "gme_modes",
		Help: "1 for the modes of this instance: its routing (ebpf, nftables, address, none) and its strongest proof of the calling pod (record, socket, address).",
	}, []string{"routing", "proof"})
	registry.MustRegister(g)
	return g
}
