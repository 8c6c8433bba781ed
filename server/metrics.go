package server

import (
	"log/slog"
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
	none     *count // of what is no endpoint

	connections prometheus.Gauge
	crowded     *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gme_http_requests_total",
			Help: "Answers, by endpoint (a key of the metadata tree, directory, or none) and status code.",
		}, []string{"endpoint", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "gme_http_request_seconds",
			Help:                        "Time to answer, by endpoint.",
			Buckets:                     []float64{.0005, .001, .005, .025, .1, .5, 1, 2.5, 5},
			NativeHistogramBucketFactor: 1.1,
		}, []string{"endpoint"}),
	}
	m.inFlight = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gme_http_requests_in_flight",
		Help: "Requests that are being answered: most of them wait for an identity, a token or a change.",
	})
	m.connections = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gme_http_connections",
		Help: "Open connections.",
	})
	m.crowded = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_http_connections_closed_total",
		Help: "Connections closed because their source had too many: the one that was silent for longest, or the new one where none was (refused).",
	}, []string{"which"})
	m.none = m.of("none")
	reg.MustRegister(m.requests, m.seconds, m.inFlight, m.connections, m.crowded)
	return m
}

func (m *metrics) newCrowd(most int) *crowd {
	return &crowd{
		most: most, open: m.connections, silent: m.crowded.WithLabelValues("silent"), refused: m.crowded.WithLabelValues("refused"),
		sources: map[source]map[*peer]bool{},
	}
}

// measured notes what is told of an answer.
type measured struct {
	http.ResponseWriter
	status int
	count  *count
	level  slog.Level // of the access log
	err    error
}

func (m *measured) WriteHeader(status int) {
	m.status = status
	m.ResponseWriter.WriteHeader(status)
}

// Unwrap lets [http.ResponseController] reach the connection.
func (m *measured) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// count is what is counted of one endpoint. What nobody asked for has no series.
type count struct {
	requests *prometheus.CounterVec    // by code
	ok       func() prometheus.Counter // the one of 200
	seconds  func() prometheus.Observer
}

func (m *metrics) of(endpoint string) *count {
	requests := m.requests.MustCurryWith(prometheus.Labels{"endpoint": endpoint})
	return &count{
		requests: requests,
		ok:       sync.OnceValue(func() prometheus.Counter { return requests.WithLabelValues("200") }),
		seconds:  sync.OnceValue(func() prometheus.Observer { return m.seconds.WithLabelValues(endpoint) }),
	}
}

func (c *count) observe(status int, took time.Duration) {
	if status == http.StatusOK {
		c.ok().Inc()
	} else {
		c.requests.WithLabelValues(strconv.Itoa(status)).Inc()
	}
	c.seconds().Observe(took.Seconds())
}
