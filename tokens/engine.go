package tokens

import (
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/oauth2"

	"gke-metadata-emulator/identity"
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

	Policy       Policy // of impersonation; the GSAs' own IAM policies where nil
	WorkloadPool string // PROJECT_ID.svc.id.goog
	Provider     string // of federation; names further members that the IAM policies may hold

	IAMCredentialsEndpoint string // https://iamcredentials.googleapis.com
	IAMEndpoint            string // https://iam.googleapis.com

	HTTPClient *http.Client          // for Google; http.DefaultClient where nil
	Now        func() time.Time      // time.Now where nil
	Metrics    prometheus.Registerer // none where nil
}

// Engine is the [Source] of a node.
type Engine struct {
	Source
	tasks *tasks
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
	metrics := newMetrics(o.Metrics)
	tasks := newTasks(upstreamTimeout)
	build := o.impersonating
	if o.Federation != nil {
		build = o.federating
	}
	source, err := build(tasks, metrics)
	if err != nil {
		return nil, err
	}
	source, err = shared(source, o.Now, tasks, metrics)
	return &Engine{Source: source, tasks: tasks}, err
}

// Close ends the background work and returns when it has ended. Requests after it
// are answered from the cache only.
func (e *Engine) Close() { e.tasks.close() }

// shared makes the tokens of a source common to all who may have them.
func shared(source Source, now func() time.Time, tasks *tasks, m *metrics) (Source, error) {
	return newCache(source, cacheSize, now, tasks, m)
}

// federating: Google's IAM sees the KSA itself and decides.
func (o Options) federating(tasks *tasks, m *metrics) (Source, error) {
	exchanged, err := shared(&exchange{Federation: *o.Federation, client: o.HTTPClient, metrics: m}, o.Now, tasks, m)
	if err != nil {
		return nil, err
	}
	remedy := func(w identity.Workload) string {
		return bindingCommand(w.GSA, federatedMember(o.Federation.Provider, w.KSA))
	}
	return newMint(federated{exchanged}, o.IAMCredentialsEndpoint, o.HTTPClient, remedy, m)
}

// impersonating: Google's IAM sees the operator, so that the policy decides.
func (o Options) impersonating(tasks *tasks, m *metrics) (Source, error) {
	credential := &sourceCredential{tokens: oauth2.ReuseTokenSource(nil, o.SourceCredential), metrics: m}
	remedy := func(w identity.Workload) string {
		return sourceRoleCommand(w.GSA, "roles/iam.serviceAccountTokenCreator")
	}
	minted, err := newMint(credential, o.IAMCredentialsEndpoint, o.HTTPClient, remedy, m)
	if err != nil {
		return nil, err
	}
	policy := o.Policy
	if policy == nil {
		if policy, err = newIAMPolicy(credential, o, tasks, m); err != nil {
			return nil, err
		}
	}
	return guarded{next: minted, policy: policy}, nil
}
