package prefetch

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

const (
	concurrent = 8                // mints at a time
	spread     = 5 * time.Second  // over which the pods that are there at the start are
	within     = 20 * time.Second // one mint
	firstPause = time.Second      // after a failure; twice as long after the next
	maxPause   = 2 * time.Minute
)

// Identity knows the pods of the node.
type Identity interface {
	// Workloads are those that may ask, the newest pods first.
	Workloads() []identity.Workload
	// Changed returns a channel that is closed when there may be others.
	Changed() <-chan struct{}
	// Ready returns nil once all of them are known.
	Ready() error
}

// Usage knows what tokens were used for before the start.
type Usage interface {
	// LastUse is when a workload's access token was asked for last; zero where that is
	// not known.
	LastUse(w identity.Workload, scopes tokens.Scopes) time.Time
}

// Options is what a [Prefetch] needs. Usage, Log and Metrics may be nil.
type Options struct {
	Identity Identity
	Tokens   tokens.Source
	Scopes   []tokens.Scopes // sets of them, each of which is another token
	Usage    Usage
	Log      *slog.Logger
	Metrics  prometheus.Registerer
}

// Prefetch asks for the access tokens of each pod whose KSA is linked to a GSA, once,
// and again after another link.
type Prefetch struct {
	options  Options
	room     *semaphore.Weighted
	outcomes *prometheus.CounterVec
	running  sync.WaitGroup
}

// New makes one that does nothing until [Prefetch.Run] runs.
func New(o Options) *Prefetch {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	p := &Prefetch{options: o, room: semaphore.NewWeighted(concurrent), outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gme_prefetches_total",
		Help: "Access tokens asked for before their pod did, by outcome: ready, refused (not tried again), failed (tried again).",
	}, []string{"outcome"})}
	o.Metrics.MustRegister(p.outcomes)
	return p
}

// wanted is tokens that somebody will ask for.
type wanted struct{ pod, ksa, gsa string }

func wantedBy(w identity.Workload) wanted { return wanted{w.Pod.UID, w.KSA.UID, w.GSA} }

// Run follows the pods until ctx ends, and returns when all that it started has
// ended.
func (p *Prefetch) Run(ctx context.Context) error {
	defer p.running.Wait()
	under := map[wanted]context.CancelFunc{}
	defer func() {
		for _, stop := range under {
			stop()
		}
	}()
	// Pods that are there at the start have their containers already, and all nodes of a
	// cluster may start at once. They are put in order together, but one namespace that is
	// slow to be known does not keep all others waiting.
	starting, slow := true, time.After(spread)
	for late := false; ; {
		// Taken before the look: a change between the two must not be missed.
		changed := p.options.Identity.Changed()
		ready := p.options.Identity.Ready() == nil
		if ready || late || !starting {
			p.look(ctx, under, starting)
			starting = starting && !ready
		}
		select {
		case <-changed:
		case <-slow:
			late = true
		case <-ctx.Done():
			return nil
		}
	}
}

// look asks for the tokens of pods that are new, and not any more for those of pods that
// are gone.
func (p *Prefetch) look(ctx context.Context, under map[wanted]context.CancelFunc, starting bool) {
	there := map[wanted]bool{}
	var fresh []identity.Workload
	for _, w := range p.options.Identity.Workloads() {
		if key := wantedBy(w); w.GSA != "" && !there[key] {
			if there[key] = true; under[key] == nil {
				fresh = append(fresh, w)
			}
		}
	}
	if starting {
		p.sort(fresh)
	}
	for i, w := range fresh {
		mine, stop := context.WithCancel(ctx)
		under[wantedBy(w)] = stop
		wait := time.Duration(0)
		if starting {
			// Each in its turn, and those of two nodes not in step.
			turn := spread / time.Duration(len(fresh))
			wait = time.Duration(i)*turn + rand.N(turn)
		}
		p.running.Go(func() { p.fetch(mine, w, wait) })
	}
	for key, stop := range under {
		if !there[key] {
			stop()
			delete(under, key)
		}
	}
}

// sort puts those first whose token was used last: they ask again soonest. Of the others
// the newest pods are likeliest to have none yet.
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

// fetch asks until there are the tokens, a refusal, or no pod any more.
func (p *Prefetch) fetch(ctx context.Context, w identity.Workload, wait time.Duration) {
	left := p.options.Scopes
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		var err error
		left, err = p.try(ctx, w, left)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			p.options.Log.Debug("prefetch", "namespace", w.Pod.Namespace, "pod", w.Pod.Name, "gsa", w.GSA, "error", err, "again", len(left) > 0)
		}
		if len(left) == 0 {
			return
		}
		wait = pause/2 + rand.N(pause/2)
	}
}

// try asks for each once. It returns those that are to be asked for again.
func (p *Prefetch) try(ctx context.Context, w identity.Workload, left []tokens.Scopes) ([]tokens.Scopes, error) {
	if err := p.room.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer p.room.Release(1)
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for ; len(left) > 0; left = left[1:] {
		_, err := p.options.Tokens.AccessToken(ctx, w, left[0])
		var refused *tokens.Error
		switch {
		case err == nil:
			p.outcomes.WithLabelValues("ready").Inc()
		case errors.As(err, &refused) && refused.Kind != tokens.Unavailable:
			p.outcomes.WithLabelValues("refused").Inc()
			return nil, err
		default:
			p.outcomes.WithLabelValues("failed").Inc()
			return left, err
		}
	}
	return nil, nil
}
