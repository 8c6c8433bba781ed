package tokens

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/oauth2"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/change"
)

const (
	cacheSize       = 4096 // tokens
	upstreamTimeout = 20 * time.Second
)

// Options is what an [Engine] needs. Exactly one of Federation and
// SourceCredential is set.
type Options struct {
	Federation       *Federation
	SourceCredential oauth2.TokenSource // the operator's, for impersonation
	Delegates        []string           // e-mail addresses, through which the source credential reaches all GSAs

	Policy       Policy // of impersonation; the GSAs' own IAM policies where nil
	RulesDecide  bool   // instead of the policy: their list is all that allows
	WorkloadPool string // PROJECT_ID.svc.id.goog
	Provider     string // of federation; names further members that the IAM policies may hold

	Limits *Rules // in all modes, for as long as the engine lives; nil where there are none
	Rules  *Rules // the same, until [Engine.SetRules]

	IAMCredentialsEndpoint string // https://iamcredentials.googleapis.com
	IAMEndpoint            string // https://iam.googleapis.com

	Audit      *AuditLog             // nil where nobody wants one
	Trace      func(Source) Source   // stands before what mints; nil where nobody wants traces
	HTTPClient *http.Client          // for Google; http.DefaultClient where nil
	Now        func() time.Time      // time.Now where nil
	Metrics    prometheus.Registerer // none where nil
}

// Engine is the [Source] of a node.
type Engine struct {
	Source
	tasks *tasks
	rules atomic.Pointer[Rules]

	tokens  *cache
	further []*store // what the tokens are minted with: federated tokens, KSA tokens
	bound   *store   // of these, the KSA tokens, each bound to a pod; nil where there are none

	changed change.Signal
	terms   string
	used    map[key]time.Time // as it was before the engine was restored
}

// New builds the engine; [Engine.Close] ends what it runs in the background.
func New(o Options) (*Engine, error) {
	if (o.Federation == nil) == (o.SourceCredential == nil) {
		return nil, errors.New("tokens: either federation or a source credential is needed")
	}
	if o.HTTPClient == nil {
		o.HTTPClient = http.DefaultClient
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	m := newMetrics(o.Metrics)
	e := &Engine{tasks: newTasks(upstreamTimeout), terms: o.terms()}
	e.rules.Store(o.Rules)

	minted, policy, err := o.minting(e, m)
	if err != nil {
		return nil, err
	}
	if o.Trace != nil {
		minted = o.Trace(minted)
	}
	// From the inside out.
	guarded := guarded{next: minted, flags: o.Limits, file: &e.rules, policy: policy, metrics: m}
	limited := limit{next: guarded, turns: newTurns(maxMints, maxMintsOfPod, maxWaitingOfPod, m)}
	e.tokens = newCache(limited, "tokens", cacheSize, o.Now, e.tasks, m).outermost()
	for _, store := range e.stores() {
		store.changed = &e.changed
	}
	e.Source = e.tokens
	if o.Audit != nil {
		o.Audit.counts = m.audited
		e.Source = audited{next: e.tokens, log: o.Audit, now: o.Now}
	}
	return e, nil
}

// Close ends the background work and returns when it has ended. Requests after it
// are answered from the cache only.
func (e *Engine) Close() { e.tasks.close() }

// SetRules replaces the rules, and forgets each token of which these say another thing.
func (e *Engine) SetRules(rules *Rules) {
	old := e.rules.Swap(rules)
	e.tokens.drop(func(_ key, _ *entry, w identity.Workload) bool { return old.stance(w) != rules.stance(w) })
	e.changed.Raise() // the terms have
}

// minting is the innermost source, with the policy that must stand before it.
func (o Options) minting(e *Engine, m *metrics) (Source, Policy, error) {
	calls, err := newIAMCredentials(o)
	if err != nil {
		return nil, nil, err
	}
	minted := &mint{calls: calls, delegates: o.Delegates, now: o.Now, metrics: m, life: func(w identity.Workload) time.Duration {
		flags, file := o.Limits.life(w), e.rules.Load().life(w)
		return min(cmp.Or(flags, file), cmp.Or(file, flags))
	}}
	if o.Federation != nil {
		return o.federating(minted, e, m), nil, nil
	}
	policy, err := o.impersonating(minted, e, m)
	return minted, policy, err
}

// federating: Google's IAM sees the KSA itself and decides.
func (o Options) federating(minted *mint, e *Engine, m *metrics) Source {
	kept := newSubjects(o.Federation.Subjects, cacheSize, o.Now, e.tasks, m)
	exchanging := func(life time.Duration) *exchange {
		return &exchange{Federation: *o.Federation, kept: kept, life: life, client: o.HTTPClient, now: o.Now, metrics: m}
	}
	shared := newCache(exchanging(subjectLife), "federated", cacheSize, o.Now, e.tasks, m)
	e.further, e.bound = []*store{shared.store, kept.store}, kept.store
	minted.base = federated{source: shared, short: func(life time.Duration) Source { return exchanging(life) }}
	minted.remedy = func(w identity.Workload) string {
		role := workloadIdentityUser
		if w.Delegates != "" {
			role = serviceAccountTokenCreator // the other has no iam.serviceAccounts.implicitDelegation
		}
		return bindingCommand(first(w), role, federatedMember(o.Federation.Provider, w.KSA))
	}
	return minted
}

// impersonating: Google's IAM sees the operator, so that the policy decides.
func (o Options) impersonating(minted *mint, e *Engine, m *metrics) (Policy, error) {
	credential := &sourceCredential{tokens: oauth2.ReuseTokenSource(nil, o.SourceCredential), metrics: m}
	minted.base = credential
	minted.remedy = func(w identity.Workload) string {
		return sourceRoleCommand(slices.Concat(o.Delegates, []string{first(w)})[0], serviceAccountTokenCreator)
	}
	switch {
	case o.RulesDecide:
		return listed{&e.rules}, nil
	case o.Policy != nil:
		return o.Policy, nil
	}
	return newIAMPolicy(credential, o, e.tasks, m)
}

// Workloads knows the pods of the node.
type Workloads interface {
	// Workloads are those that may ask.
	Workloads() []identity.Workload
	// Changed returns a channel that is closed when there may be others; nil where
	// there never are.
	Changed() <-chan struct{}
	// Ready returns nil once all of them are known.
	Ready() error
}

// Follow forgets at once what nobody here may have any more, until ctx ends: the
// tokens of a GSA that the KSA is no longer annotated with, the KSA tokens of pods that
// are gone, and a minute later the tokens of a KSA whose last pod here is gone. These
// are not renewed meanwhile. It begins when all workloads are known: before that the
// restored tokens of one that is not yet would be forgotten.
func (e *Engine) Follow(ctx context.Context, of Workloads) {
	again := time.NewTicker(lingering / 2)
	defer again.Stop()
	for ready := false; ; {
		changed := of.Changed() // taken before the look, so that none is missed
		if ready = ready || of.Ready() == nil; ready {
			e.retain(newPresent(of.Workloads()))
		}
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

func (e *Engine) retain(here present) {
	e.tokens.retain(here, here.linked, false)
	for _, store := range e.further {
		store.retain(here, here.linkedAnyhow, store == e.bound)
	}
}

// Forget forgets all tokens of a KSA, and those that are being minted.
func (e *Engine) Forget(ksaUID string) {
	for _, store := range e.stores() {
		store.drop(func(k key, _ *entry, _ identity.Workload) bool { return k.ksa == ksaUID })
	}
}

func (e *Engine) stores() []*store { return append([]*store{e.tokens.store}, e.further...) }
