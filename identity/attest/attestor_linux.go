package attest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/identity"
)

// Attestor proves which pod opened a connection that its listener accepted.
type Attestor struct {
	policy    Policy
	cgroups   *Cgroups
	records   *Recorder
	sockets   *sockets
	conntrack conntrack
	metrics   *metrics
	log       *slog.Logger
}

// proof is the kernel's answer for a caller: a pod, or the reason why there is none.
type proof struct {
	podUID string
	err    error
}

// errNoProof is returned if the kernel knows nothing of the connection's other end.
var errNoProof = errors.New("the kernel has no record of the process that opened the connection")

// New makes an attestor. It attests the connections that come through its listener.
func New(o Options) (*Attestor, error) {
	a := &Attestor{policy: o.Policy, cgroups: o.Cgroups, records: o.Records, log: o.Log}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	lost := func() uint64 { return 0 }
	if o.Records != nil {
		lost = o.Records.Lost
	}
	a.metrics = newMetrics(o.Metrics, lost)
	if o.Cgroups == nil {
		if o.Policy != IP {
			return nil, fmt.Errorf("attestation: the policy %s needs cgroups", o.Policy)
		}
		return a, nil
	}
	var err error
	if a.sockets, err = openSockets(); err != nil {
		return nil, err
	}
	if a.conntrack, err = openConntrack(); err != nil {
		a.sockets.close()
		return nil, err
	}
	return a, nil
}

// Close closes the sockets to the kernel. It does not close the parts in Options.
func (a *Attestor) Close() {
	if a.sockets != nil {
		a.sockets.close()
		a.conntrack.close()
	}
}

// caller applies the policy to the proof of a connection.
func (a *Attestor) caller(p proof, seen identity.Connection) (identity.Caller, error) {
	if a.policy == IP {
		return identity.SourceIP(seen)
	}
	if p.err == nil {
		return identity.Caller{PodUID: p.podUID, IP: seen.Remote.Addr()}, nil
	}
	if errors.Is(p.err, errNoProof) && a.policy == Prefer {
		caller, err := identity.SourceIP(seen)
		caller.Unrecorded = a.records != nil
		return caller, err
	}
	return identity.Caller{}, refused(p.err, seen.Remote.Addr())
}

// prove queries the kernel. It runs once for a connection, when the connection is
// accepted.
func (a *Attestor) prove(t Tuple, seen identity.Connection) proof {
	if a.cgroups == nil {
		return proof{err: errNoProof}
	}
	cgroup, by, err := a.cgroup(t, seen)
	if err != nil {
		return a.count(t, by, proof{err: err})
	}
	uid, err := a.cgroups.PodUID(cgroup)
	return a.count(t, by, proof{uid, err})
}

func (a *Attestor) cgroup(t Tuple, seen identity.Connection) (id uint64, by string, err error) {
	found := false
	if a.records != nil {
		if id, found, err = a.records.Take(t); found || err != nil {
			return id, "record", err
		}
		if original, ok := a.translated(t, seen); ok {
			if id, found, err = a.records.Take(original); found || err != nil {
				return id, "record", err
			}
		}
	}
	if id, found, err = a.sockets.cgroup(t); found || err != nil {
		return id, "socket", err
	}
	return 0, "none", errNoProof
}

// translated returns the connection as the client sees it if the client's end was
// translated too. SO_ORIGINAL_DST returns the server's end only.
func (a *Attestor) translated(t Tuple, seen identity.Connection) (original Tuple, found bool) {
	if t.Server == seen.Local {
		return Tuple{}, false
	}
	original, found = a.conntrack.originalTuple(seen)
	return original, found && original != t
}

func (a *Attestor) count(t Tuple, by string, p proof) proof {
	var noPod *NotAPodError
	switch {
	case p.err == nil, errors.Is(p.err, errNoProof):
	case errors.As(p.err, &noPod):
		by = "no_pod"
	case errors.Is(p.err, ErrCgroupGone):
		by = "gone"
	default:
		by = "error"
		a.log.Error("cannot read from the kernel which pod opened a connection", "caller", t.Client, "error", p.err)
	}
	a.metrics.proofs.WithLabelValues(by).Inc()
	if ctx := context.Background(); a.log.Enabled(ctx, slog.LevelDebug) {
		a.log.DebugContext(ctx, "connection", "source", t.Client.String(), "proof", by, "pod", p.podUID)
	}
	return p
}
