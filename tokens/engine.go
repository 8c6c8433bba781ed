package tokens

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/change"
	"gke-metadata-emulator/internal/principal"
)

const (
	cacheSize       = 4096 // tokens
	upstreamTimeout = 20 * time.Second
	// defaultWait: Google's libraries give up after 0.5 to 5 s. The call that they
	// wait for goes on without them.
	defaultWait = 10 * time.Second
)

// Options configures an [Engine]. Exactly one of Federation and SourceCredential is
// set.
type Options struct {
	Federation       *Federation
	SourceCredential SourceCredential // the operator's, for impersonation
	SourceFile       string           // its file, which remedies name; empty: it is the Secret of a cluster
	Delegates        []string         // e-mail addresses of the chain from the source credential to all GSAs

	Names       principal.Names // of the KSAs in IAM policies
	Policy      Policy          // of impersonation; default: the GSAs' own IAM policies
	RulesDecide bool            // the list in Rules replaces the policy

	Limits *Rules // in all modes, fixed for the engine's lifetime; nil: no limits
	Rules  *Rules // the same, until [Engine.SetRules]

	IAMCredentialsEndpoint string // https://iamcredentials.googleapis.com
	IAMEndpoint            string // https://iam.googleapis.com

	// Wait bounds a request whose context has no deadline; default: 10 seconds. A
	// deadline of the context holds instead.
	Wait       time.Duration
	Audit      *AuditLog             // nil: no audit log
	Trace      func(Source) Source   // wraps the minting source; nil: no traces
	HTTPClient *http.Client          // for Google; default: http.DefaultClient
	Now        func() time.Time      // default: time.Now
	Log        *slog.Logger          // default: no log
	Metrics    prometheus.Registerer // nil: no metrics
}

// Engine is the [Source] of a node.
type Engine struct {
	Source
	background *background
	rules      atomic.Pointer[Rules]
	source     *sourceCredential // nil in federation mode

	tokens           *cache
	credentialStores []*store // what tokens are minted with: federated tokens and KSA tokens
	ksaTokens        *store   // one of credentialStores; each token is bound to a pod. nil in impersonation mode.

	iamPolicy *iamPolicy // nil if the GSAs' own IAM policies do not decide

	changed     change.Signal
	fingerprint string            // of the options; see [Engine.Fingerprint]
	lastUses    map[key]time.Time // from the snapshot; written by [Engine.Restore] only
}

// New builds the engine. [Engine.Close] ends its background work.
func New(o Options) (*Engine, error) {
	if (o.Federation == nil) == (o.SourceCredential == nil) {
		return nil, errors.New("tokens: set exactly one of Federation and SourceCredential")
	}
	if o.HTTPClient == nil {
		o.HTTPClient = http.DefaultClient
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	m := newMetrics(o.Metrics)
	e := &Engine{background: newBackground(upstreamTimeout)}
	e.rules.Store(o.Rules)

	minting, policy, err := o.minting(e, m)
	if err != nil {
		return nil, err
	}
	e.fingerprint = o.fingerprint(policy)
	if o.Trace != nil {
		minting = o.Trace(minting)
	}
	// From the inside out.
	_, unguarded := policy.(AllowAll)
	guarded := guarded{next: minting, limits: o.Limits, rules: &e.rules, policy: policy, anyQuotaProject: policy == nil || unguarded, log: o.Log, metrics: m}
	limited := limited{next: guarded, slots: newFairSemaphore(maxMints, maxMintsPerPod, maxWaitingPerPod, m)}
	e.tokens = newCache(limited, "tokens", cacheSize, o.Now, e.background, m).retryFor(cmp.Or(o.Wait, defaultWait))
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

// Close ends the background work and returns when it has ended. Later requests are
// answered from the cache only.
func (e *Engine) Close() { e.background.close() }

// SetRules replaces the rules, and forgets the tokens of each workload for which the
// new rules differ from the old ones.
func (e *Engine) SetRules(rules *Rules) {
	old := e.rules.Swap(rules)
	e.tokens.drop(func(_ key, _ *entry, w identity.Workload) bool { return old.fingerprint(w) != rules.fingerprint(w) })
	e.changed.Raise() // the fingerprint has changed
}

// SourceCredentialChanged makes the engine use a changed [SourceCredential] at once: it
// forgets the failures of the previous one and the calls that are under way. Tokens of GSAs
// are kept, as they do not depend on it any more. It needs impersonation mode.
func (e *Engine) SourceCredentialChanged() {
	e.source.flights.Forget("")
	if e.iamPolicy != nil {
		e.iamPolicy.credentials.Add(1)
	}
	e.tokens.forgetFailures()
	e.changed.Raise() // the snapshot has another owner
}

// minting returns the innermost source, and the policy that has to guard it.
func (o Options) minting(e *Engine, m *metrics) (Source, Policy, error) {
	calls, err := newIAMCredentials(o)
	if err != nil {
		return nil, nil, err
	}
	minting := &mint{calls: calls, delegates: o.Delegates, now: o.Now, metrics: m, maxLifetime: func(w identity.Workload) time.Duration {
		limits, rules := o.Limits.maxLifetime(w), e.rules.Load().maxLifetime(w)
		return min(cmp.Or(limits, rules), cmp.Or(rules, limits))
	}}
	if o.Federation != nil {
		return o.federating(minting, e, m), nil, nil
	}
	policy, err := o.impersonating(minting, e, m)
	return minting, policy, err
}

// federating sets up federation: Google's IAM sees the KSA itself and decides.
func (o Options) federating(minting *mint, e *Engine, m *metrics) Source {
	ksaTokens := newSubjectCache(o.Federation.Subjects, cacheSize, o.Now, e.background, m)
	exchangeFor := func(lifetime time.Duration) *exchange {
		return &exchange{Federation: *o.Federation, names: o.Names, subjects: ksaTokens, lifetime: lifetime, client: o.HTTPClient, now: o.Now, metrics: m}
	}
	shared := newCache(exchangeFor(subjectLifetime), "federated", cacheSize, o.Now, e.background, m)
	e.credentialStores, e.ksaTokens = []*store{shared.store, ksaTokens.store}, ksaTokens.store
	minting.credential = federated{source: shared, shortLived: func(lifetime time.Duration) Source { return exchangeFor(lifetime) }}
	minting.caller = func(w identity.Workload) string { return o.Names.Member(w.KSA) }
	minting.missingBinding = func(w identity.Workload) string {
		role := workloadIdentityUser
		if w.Delegates != "" {
			role = serviceAccountTokenCreator // workloadIdentityUser lacks iam.serviceAccounts.implicitDelegation
		}
		return bindingCommand(entryAccount(w), role, minting.caller(w))
	}
	return minting
}

// impersonating sets up impersonation: Google's IAM sees the operator, so the policy
// has to decide.
func (o Options) impersonating(minting *mint, e *Engine, m *metrics) (Policy, error) {
	source := &sourceCredential{SourceCredential: o.SourceCredential, file: o.SourceFile, metrics: m}
	minting.credential, minting.sourceFile, e.source = source, source.file, source
	minting.caller = func(identity.Workload) string { return source.Member() }
	minting.missingBinding = func(w identity.Workload) string {
		return sourceRoleCommand(slices.Concat(o.Delegates, []string{entryAccount(w)})[0], serviceAccountTokenCreator, source.Member())
	}
	switch {
	case o.RulesDecide:
		return filePolicy{&e.rules}, nil
	case o.Policy != nil:
		return o.Policy, nil
	}
	var err error
	if e.iamPolicy, err = newIAMPolicy(source, o, e.background, m); err != nil {
		return nil, err
	}
	return e.iamPolicy, nil
}

// Forget forgets all tokens of a KSA, and those that are being minted.
func (e *Engine) Forget(ksaUID string) {
	for _, store := range e.stores() {
		store.drop(func(k key, _ *entry, _ identity.Workload) bool { return k.ksa == ksaUID })
	}
}

// ForgetRefusals makes the next request for a token of w's KSA reach Google again, even
// if Google has just refused one.
func (e *Engine) ForgetRefusals(w identity.Workload) {
	for _, store := range e.stores() {
		store.forgetRefusals(w.KSA.UID)
	}
	if e.iamPolicy != nil && w.GSA != "" {
		e.iamPolicy.forgetDenial(w)
	}
}

func (e *Engine) stores() []*store { return append([]*store{e.tokens.store}, e.credentialStores...) }
