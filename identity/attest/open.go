package attest

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
)

// The strongest proof that the node permits; see [Attestation.Mode].
const (
	modeRecord  = "record"  // the kernel's record of each connection
	modeSocket  = "socket"  // sockets in the node's own network
	modeAddress = "address" // no proof: the source address
)

// OpenOptions configures [Open].
type OpenOptions struct {
	Policy       Policy
	CgroupRoot   string           // folder below which the kubelet makes kubepods; if empty, the usual ones
	Destinations []netip.AddrPort // recorded from before the first connection
	Log          *slog.Logger     // must not be nil
	Metrics      prometheus.Registerer
}

// CgroupRootError is returned if [OpenOptions.CgroupRoot] has no cgroup of pods.
type CgroupRootError struct{ Err error }

func (e *CgroupRootError) Error() string { return e.Err.Error() }
func (e *CgroupRootError) Unwrap() error { return e.Err }

// Attestation is an [Attestor] with the parts that it reads from.
type Attestation struct {
	*Attestor
	cgroups *Cgroups  // nil if the node has none
	records *Recorder // nil if the kernel records nothing
	mode    string
}

// Open opens the strongest proof that the node permits. If the kernel's record is not
// available, the policy [Prefer] logs the reason and [Require] returns it as an error. The
// error for an unusable CgroupRoot is a [*CgroupRootError].
func Open(o OpenOptions) (*Attestation, error) {
	a := &Attestation{mode: modeAddress}
	policy := o.Policy
	var missing error
	a.cgroups, missing = OpenCgroups(o.CgroupRoot)
	if missing != nil && o.CgroupRoot != "" {
		return nil, &CgroupRootError{missing}
	}
	if missing == nil && policy != IP {
		missing = a.open(o.Destinations)
	}
	switch {
	case missing != nil && policy == Require:
		return nil, errors.Join(fmt.Errorf("--attestation=require: %w; see docs/routing-modes.md", missing), a.Close())
	case missing != nil && policy == Prefer:
		o.Log.Warn("kernel attestation is unavailable; pods are identified by source IP", "have", a.mode, "reason", missing)
	}
	if a.mode == modeAddress {
		policy = IP
	}
	var err error
	a.Attestor, err = New(Options{Policy: policy, Cgroups: a.cgroups, Records: a.records, Log: o.Log, Metrics: o.Metrics})
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	o.Log.Info("attestation", "policy", string(o.Policy), "proof", a.mode)
	return a, nil
}

// open opens the strongest proof. Its error is the reason why no stronger one exists.
func (a *Attestation) open(destinations []netip.AddrPort) error {
	if err := a.cgroups.Probe(); err != nil {
		return err
	}
	a.mode = modeSocket
	var err error
	if a.records, err = NewRecorder(a.cgroups.Kubepods()); err != nil {
		return err
	}
	a.mode = modeRecord
	for _, destination := range destinations {
		if err := a.Watch(destination); err != nil {
			return err
		}
	}
	return nil
}

// Mode returns the strongest proof: record, socket or address.
func (a *Attestation) Mode() string { return a.mode }

// Watch makes the kernel record connections to an address, if it can.
func (a *Attestation) Watch(destination netip.AddrPort) error {
	if a.records == nil {
		return nil
	}
	return a.records.Add(destination)
}

// Kubepods returns the folder of the cgroup of all pods; empty if it was not found.
func (a *Attestation) Kubepods() string {
	if a.cgroups == nil {
		return ""
	}
	return a.cgroups.Kubepods()
}

// Close detaches from the kernel.
func (a *Attestation) Close() error {
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
