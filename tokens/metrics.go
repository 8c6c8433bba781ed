package tokens

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	cache    *prometheus.CounterVec
	upstream *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		cache: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gme_token_cache_requests_total",
			Help: "Requests to the token caches, by result: hit, renewing (answered, and renewed in the background), short (too little life left), miss.",
		}, []string{"result"}),
		upstream: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "gme_upstream_seconds",
			Help:                        "Time of calls to the API server and to Google, by call (TokenRequest, sts, sourceCredential, generateAccessToken, generateIdToken, getIamPolicy) and result (ok or the kind of error).",
			Buckets:                     []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor: 1.1,
		}, []string{"call", "result"}),
	}
	reg.MustRegister(m.cache, m.upstream)
	return m
}

// time measures one call upstream. The call returns an error of type *Error or nil.
func (m *metrics) time(call string, f func() error) error {
	start := time.Now()
	err := f()
	result := "ok"
	if err != nil {
		result = string(kindOf(err))
	}
	m.upstream.WithLabelValues(call, result).Observe(time.Since(start).Seconds())
	return err
}
