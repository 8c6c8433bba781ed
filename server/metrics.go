package server

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
	none     *endpointMetrics // for requests that reach no endpoint

	connections       prometheus.Gauge
	connectionsClosed *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gme_http_requests_total",
			Help: "Responses, by endpoint (a key of the metadata tree, directory, or none) and status code.",
		}, []string{"endpoint", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "gme_http_request_seconds",
			Help:                        "Time to respond, by endpoint.",
			Buckets:                     []float64{.0005, .001, .005, .025, .1, .5, 1, 2.5, 5},
			NativeHistogramBucketFactor: 1.1,
		}, []string{"endpoint"}),
	}
	m.inFlight = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gme_http_requests_in_flight",
		Help: "Requests in progress: most of them wait for an identity, a token or a change.",
	})
	m.connections = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gme_http_connections",
		Help: "Open connections.",
	})
	m.connectionsClosed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_http_connections_closed_total",
		Help: "Connections closed because their source had too many: the longest idle one (silent), or the new one if none was idle (refused).",
	}, []string{"which"})
	m.none = m.forEndpoint("none")
	reg.MustRegister(m.requests, m.seconds, m.inFlight, m.connections, m.connectionsClosed)
	return m
}

func (m *metrics) newConnLimiter(maxPerSource int) *connLimiter {
	return &connLimiter{
		maxPerSource: maxPerSource,
		open:         m.connections,
		evicted:      m.connectionsClosed.WithLabelValues("silent"),
		refused:      m.connectionsClosed.WithLabelValues("refused"),
		conns:        map[source]map[*conn]bool{},
	}
}

// endpointMetrics are the metrics of one endpoint. An endpoint has no series before
// its first request.
type endpointMetrics struct {
	requests *prometheus.CounterVec    // by code
	ok       func() prometheus.Counter // requests for code 200
	seconds  func() prometheus.Observer
}

func (m *metrics) forEndpoint(path string) *endpointMetrics {
	requests := m.requests.MustCurryWith(prometheus.Labels{"endpoint": path})
	return &endpointMetrics{
		requests: requests,
		ok:       sync.OnceValue(func() prometheus.Counter { return requests.WithLabelValues("200") }),
		seconds:  sync.OnceValue(func() prometheus.Observer { return m.seconds.WithLabelValues(path) }),
	}
}

func (m *endpointMetrics) observe(status int, elapsed time.Duration) {
	if status == http.StatusOK {
		m.ok().Inc()
	} else {
		m.requests.WithLabelValues(strconv.Itoa(status)).Inc()
	}
	m.seconds().Observe(elapsed.Seconds())
}
