package identity

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	resolutions   *prometheus.CounterVec
	confirmations *prometheus.CounterVec
	watchErrors   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		resolutions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gme_identity_resolutions_total",
			Help: "Connections for which the calling pod was looked up, by result: ok, or the reason why there is none.",
		}, []string{"result"}),
		confirmations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gme_identity_confirmations_total",
			Help: "Requests to the API server that confirm that a pod still has its address, by result: held, gone, unavailable.",
		}, []string{"result"}),
		watchErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gme_identity_watch_errors_total",
			Help: "Failed lists and watches of the API server, by resource.",
		}, []string{"resource"}),
	}
	reg.MustRegister(m.resolutions, m.confirmations, m.watchErrors)
	return m
}

func (m *metrics) namespaces(reg prometheus.Registerer, count func() int) {
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gme_identity_watched_namespaces",
		Help: "Namespaces whose service accounts are watched.",
	}, func() float64 { return float64(count()) }))
}
