package tokens

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	cache        *prometheus.CounterVec
	upstream     *prometheus.HistogramVec
	mints        prometheus.Gauge
	mintsWaiting prometheus.Gauge
	turnedAway   *prometheus.CounterVec
	decisions    *prometheus.CounterVec
	audited      *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		cache: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gme_token_cache_requests_total",
			Help: "Requests to the caches of tokens, of federated tokens and of KSA tokens, by result: hit, renewing (answered, and renewed in the background), short (too little life left), refused (for a reason that was known), miss; further retry (another attempt for who waits) and ahead (renewed while nobody asked). Who asks the same again within a second may be answered before.",
		}, []string{"cache", "result"}),
		upstream: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "gme_upstream_seconds",
			Help:                        "Time of calls to the API server and to Google, by call (TokenRequest, sts, sourceCredential, generateAccessToken, generateIdToken, getIamPolicy) and result (ok or the kind of error).",
			Buckets:                     []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor: 1.1,
		}, []string{"call", "result"}),
		mints: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gme_token_mints_in_flight",
			Help: "Tokens that are being minted.",
		}),
		mintsWaiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gme_token_mints_waiting",
			Help: "Tokens that wait for their turn to be minted.",
		}),
		turnedAway: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gme_token_mints_turned_away_total",
			Help: "Tokens not minted for want of a turn, by reason: full (its pod had too many waiting) or late (none came in time).",
		}, []string{"reason"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gme_policy_decisions_total",
			Help: "Decisions of the policy on what is to be minted, by decision: granted, narrowed (to fewer scopes), refused, or unknown (the GSA's IAM policy could not be read).",
		}, []string{"decision"}),
		audited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gme_audit_records_total",
			Help: "Records for --audit-log, by result: written, dropped (the sink was slower than the requests), failed (the sink returned an error).",
		}, []string{"result"}),
	}
	reg.MustRegister(m.cache, m.upstream, m.mints, m.mintsWaiting, m.turnedAway, m.decisions, m.audited)
	return m
}

// cacheCounts are the counters of one cache, found once: a hit is to cost little.
type cacheCounts struct {
	hit, renewing, short, refused, miss, retries, ahead prometheus.Counter
}

func (m *metrics) cacheCounts(cache string) cacheCounts {
	of := func(result string) prometheus.Counter { return m.cache.WithLabelValues(cache, result) }
	return cacheCounts{of("hit"), of("renewing"), of("short"), of("refused"), of("miss"), of("retry"), of("ahead")}
}

// hung is when a call is given up and made anew: Google answers within a second, and
// what is silent for longer is mostly a connection that is dead.
const hung = 4 * time.Second

// call makes one call upstream, or two where the first hangs, and measures each. f
// returns an error of type *Error or nil, and does nothing that must not be done twice.
func (m *metrics) call(ctx context.Context, name string, f func(context.Context) error) error {
	early, cancel := context.WithTimeout(ctx, hung)
	err := m.time(name, func() error { return f(early) })
	silent := errors.Is(early.Err(), context.DeadlineExceeded)
	cancel()
	if err == nil || permanent(err) || !silent || ctx.Err() != nil {
		return err
	}
	return m.time(name, func() error { return f(ctx) })
}

// time measures one call.
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
