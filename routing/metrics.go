package routing

import "github.com/prometheus/client_golang/prometheus"

// NewRepaired makes the metric of repairs.
func NewRepaired(reg prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_routing_repairs_total",
		Help: "Times that the table of --routing=nftables was found changed or missing, by result: repaired, or failed (it is tried again).",
	}, []string{"result"})
	reg.MustRegister(c)
	return c
}
