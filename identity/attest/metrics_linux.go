package attest

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	proofs *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, lost func() uint64) *metrics {
	m := &metrics{proofs: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_attestation_proofs_total",
		Help: "Accepted connections, by the kernel's proof of the caller: record (its pod, recorded when it connected), socket (its pod, by its socket in the node's network), none, no_pod (a process of no pod), gone (its container has ended), error.",
	}, []string{"proof"})}
	reg.MustRegister(m.proofs, prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "gme_attestation_lost_records_total",
		Help: "Connections that the kernel could not record because too many were waiting to be accepted.",
	}, func() float64 { return float64(lost()) }))
	return m
}
