package tokens

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	cache        *prometheus.CounterVec
	upstream     *prometheus.HistogramVec
	mints        prometheus.Gauge
	mintsWaiting prometheus.Gauge
	rejected     *prometheus.CounterVec
	decisions    *prometheus.CounterVec
	audited      *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		cache: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gme_token_cache_requests_total",
			Help: "Requests to the caches of tokens, federated tokens and KSA tokens, by result: hit, renewing (answered from the cache, renewal started in the background), short (cached, but with too little lifetime left), refused (a cached refusal), or miss; and, in addition to requests, retry (another attempt for a waiting request) and ahead (renewal in the background without a request).",
		}, []string{"cache", "result"}),
		upstream: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "gme_upstream_seconds",
			Help:                        "Duration of calls to the API server and to Google, by call (TokenRequest, sts, sourceCredential, generateAccessToken, generateIdToken, getIamPolicy) and result (ok or the kind of error).",
			Buckets:                     []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor: 1.1,
		}, []string{"call", "result"}),
		mints: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gme_token_mints_in_flight",
			Help: "Tokens that are currently being minted.",
		}),
		mintsWaiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gme_token_mints_waiting",
			Help: "Tokens that are queued to be minted.",
		}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gme_token_mints_turned_away_total",
			Help: "Tokens that were not minted because the queue was full or slow, by reason: full (the pod had too many requests waiting) or late (minting could not start in time).",
		}, []string{"reason"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gme_policy_decisions_total",
			Help: "Decisions of the policy before a token is minted, by decision: granted, narrowed (to fewer scopes), refused, or unknown (the GSA's IAM policy could not be read).",
		}, []string{"decision"}),
		audited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gme_audit_records_total",
			Help: "Records for --audit-log, by result: written, dropped (the sink was slower than the requests), or failed (the sink returned an error).",
		}, []string{"result"}),
	}
	reg.MustRegister(m.cache, m.upstream, m.mints, m.mintsWaiting, m.rejected, m.decisions, m.audited)
	return m
}

// cacheCounts are the counters of one cache, looked up once: a hit must be cheap.
type cacheCounts struct {
	hit, renewing, short, refused, miss, retries, ahead prometheus.Counter
}

func (m *metrics) cacheCounts(cache string) cacheCounts {
	counter := func(result string) prometheus.Counter { return m.cache.WithLabelValues(cache, result) }
	return cacheCounts{
		hit: counter("hit"), renewing: counter("renewing"), short: counter("short"), refused: counter("refused"),
		miss: counter("miss"), retries: counter("retry"), ahead: counter("ahead"),
	}
}

// measure records the duration and the result of one upstream call.
func (m *metrics) measure(call string, f func() error) error {
	start := time.Now()
	err := f()
	result := "ok"
	if err != nil {
		result = string(kindOf(err))
	}
	m.upstream.WithLabelValues(call, result).Observe(time.Since(start).Seconds())
	return err
}
