package prefetch

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"k8s.io/apimachinery/pkg/util/wait"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

const (
	concurrency    = 8                // mints at a time
	startupSpread  = 5 * time.Second  // the window over which the pods that exist at the start are spread
	attemptTimeout = 20 * time.Second // of one mint
	minBackoff     = time.Second      // the shortest delay before a retry
	maxBackoff     = 2 * time.Minute  // the longest delay before a retry
	refusalPause   = 5 * time.Second  // between refusals of the same link
)

// Usage knows the use of tokens before the start.
type Usage interface {
	// LastUse returns the time of the last request for a workload's access token; zero
	// if it is not known.
	LastUse(w identity.Workload, scopes tokens.Scopes) time.Time
}

// Refusals knows the refusals that are cached.
type Refusals interface {
	// ForgetRefusals makes the next request for a token of the workload's KSA reach Google
	// again.
	ForgetRefusals(w identity.Workload)
}

// Options configures a [Prefetch]. Usage, Refusals, Log and Metrics can be nil.
type Options struct {
	// Identity lists the workloads of the node, the newest pods first.
	Identity tokens.Workloads
	Tokens   tokens.Source
	Scopes   []tokens.Scopes // for each set of scopes there is a token of its own
	Usage    Usage
	Refusals Refusals
	Log      *slog.Logger
	Metrics  prometheus.Registerer
}

// Prefetch requests the access tokens of each pod whose KSA is linked to a GSA once,
// and again if the link changes.
type Prefetch struct {
	options  Options
	mints    *semaphore.Weighted // limits concurrent mints
	outcomes *prometheus.CounterVec
	fetches  sync.WaitGroup

	mu      sync.Mutex
	refused map[link]refusal // of the last [refusalPause]; guarded by mu
}

// link decides which GSA a workload may use, and by which delegates.
type link struct{ ksa, gsa, delegates string }

func newLink(w identity.Workload) link { return link{w.KSA.UID, w.GSA, w.Delegates} }

type refusal struct {
	err error
	at  time.Time
}

// New returns a Prefetch that does nothing before [Prefetch.Run].
func New(o Options) *Prefetch {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	p := &Prefetch{options: o, refused: map[link]refusal{}, mints: semaphore.NewWeighted(concurrency), outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_prefetches_total",
		Help: "Access tokens requested before their pod requested them, by outcome: ready, refused (not retried), failed (retried).",
	}, []string{"outcome"})}
	o.Metrics.MustRegister(p.outcomes)
	return p
}

// target identifies the tokens of a pod with a link.
type target struct {
	pod string // its UID
	link
}

func newTarget(w identity.Workload) target { return target{w.Pod.UID, newLink(w)} }

// Run follows the pods until ctx ends, and returns when all that it started has
// ended. The error is always nil.
func (p *Prefetch) Run(ctx context.Context) error {
	defer p.fetches.Wait()
	cancels := map[target]context.CancelFunc{}
	defer func() {
		for _, cancel := range cancels {
			cancel()
		}
	}()
	// The containers of pods that exist at the start run already, and all nodes of a
	// cluster can start at once. These pods are sorted together, but one namespace whose
	// service accounts are not known in time does not delay all others.
	starting, deadline := true, time.After(startupSpread)
	for overdue := false; ; {
		// Taken before the update, so that no change between the two is missed.
		changed := p.options.Identity.Changed()
		ready := p.options.Identity.Ready() == nil
		if ready || overdue || !starting {
			p.update(ctx, cancels, starting)
			starting = starting && !ready
		}
		select {
		case <-changed:
		case <-deadline:
			overdue = true
		case <-ctx.Done():
			return nil
		}
	}
}

// update starts to fetch the tokens of new pods, and stops fetching those of pods that
// have gone.
func (p *Prefetch) update(ctx context.Context, cancels map[target]context.CancelFunc, starting bool) {
	present := map[target]bool{}
	var added []identity.Workload
	for _, w := range p.options.Identity.Workloads() {
		if key := newTarget(w); w.GSA != "" && !present[key] {
			if present[key] = true; cancels[key] == nil {
				added = append(added, w)
			}
		}
	}
	if starting {
		p.sort(added)
	}
	for i, w := range added {
		fetchCtx, cancel := context.WithCancel(ctx)
		cancels[newTarget(w)] = cancel
		delay := time.Duration(0)
		if starting {
			// One slot for each pod. The random part keeps nodes out of step.
			slot := startupSpread / time.Duration(len(added))
			delay = time.Duration(i)*slot + rand.N(slot)
		}
		p.fetches.Go(func() { p.fetch(fetchCtx, w, delay) })
	}
	for key, cancel := range cancels {
		if !present[key] {
			cancel()
			delete(cancels, key)
		}
	}
}

// sort puts the workloads whose token was used last first: they request it again
// soonest. The other workloads stay in their order, the newest pods first, which are
// the likeliest to have no token yet.
func (p *Prefetch) sort(workloads []identity.Workload) {
	if p.options.Usage == nil {
		return
	}
	slices.SortStableFunc(workloads, func(a, b identity.Workload) int { return p.lastUse(b).Compare(p.lastUse(a)) })
}

func (p *Prefetch) lastUse(w identity.Workload) (last time.Time) {
	for _, scopes := range p.options.Scopes {
		if used := p.options.Usage.LastUse(w, scopes); used.After(last) {
			last = used
		}
	}
	return last
}

// newBackoff returns the delays between attempts: each twice as long as the one before,
// up to a limit, and between half of it and all of it.
func newBackoff() wait.Backoff {
	return wait.Backoff{Duration: minBackoff / 2, Factor: 2, Jitter: 1, Steps: math.MaxInt32, Cap: maxBackoff / 2}
}

// fetch retries until it has the tokens, a refusal, or the pod has gone.
func (p *Prefetch) fetch(ctx context.Context, w identity.Workload, delay time.Duration) {
	missing := p.options.Scopes
	for backoff := newBackoff(); ; {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return
		}
		var err error
		missing, err = p.attempt(ctx, w, missing)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			p.options.Log.Debug("prefetch", "namespace", w.Pod.Namespace, "pod", w.Pod.Name, "gsa", w.GSA, "error", err, "again", len(missing) > 0)
		}
		if len(missing) == 0 {
			return
		}
		delay = backoff.Step()
	}
}

// attempt requests each token once. It returns the sets of scopes that have to be
// retried.
func (p *Prefetch) attempt(ctx context.Context, w identity.Workload, missing []tokens.Scopes) ([]tokens.Scopes, error) {
	if err := p.mints.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer p.mints.Release(1)
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	if err := p.recentRefusal(w); err != nil {
		return nil, err
	}
	for ; len(missing) > 0; missing = missing[1:] {
		_, err := p.options.Tokens.AccessToken(ctx, w, missing[0])
		var e *tokens.Error
		switch {
		case err == nil:
			p.outcomes.WithLabelValues("ready").Inc()
		case errors.As(err, &e) && e.Kind != tokens.Unavailable:
			p.outcomes.WithLabelValues("refused").Inc()
			if p.options.Refusals != nil {
				// No pod has asked yet, and the missing binding is perhaps being added.
				p.options.Refusals.ForgetRefusals(w)
				p.rememberRefusal(w, err)
			}
			return nil, err
		default:
			p.outcomes.WithLabelValues("failed").Inc()
			return missing, err
		}
	}
	return nil, nil
}

// recentRefusal returns the error of the last prefetch for the same link, if Google
// has refused it a moment ago: 100 new pods of a KSA must not cause 100 refusals.
func (p *Prefetch) recentRefusal(w identity.Workload) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := p.refused[newLink(w)]; time.Since(last.at) < refusalPause {
		return last.err
	}
	return nil
}

func (p *Prefetch) rememberRefusal(w identity.Workload, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.refused, func(_ link, r refusal) bool { return time.Since(r.at) >= refusalPause })
	p.refused[newLink(w)] = refusal{err, time.Now()}
}
