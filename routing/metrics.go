package routing

import "github.com/prometheus/client_golang/prometheus"

// NewRepaired registers the counter of repairs, by result: repaired, failed.
func NewRepaired(reg prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_routing_repairs_total",
		Help: "Repairs of the table of --routing=nftables after it was changed or removed, by result: repaired, or failed (the repair is retried).",
	}, []string{"result"})
	reg.MustRegister(c)
	return c
}
