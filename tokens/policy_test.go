package tokens

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/identity"
)

// policyFunc is a policy that a function states.
type policyFunc func(identity.Workload) error

func (f policyFunc) Allow(_ context.Context, w identity.Workload) (string, error) {
	return "asked", f(w)
}

func (b *cacheBench) guarded(p Policy) guarded {
	return guarded{next: b.upstream, file: new(atomic.Pointer[Rules]), policy: p, metrics: newMetrics(prometheus.NewRegistry())}
}

func TestNothingIsMintedThatThePolicyDenies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheBench(t)
		var asked []identity.Workload
		s := b.guarded(policyFunc(func(w identity.Workload) error {
			asked = append(asked, w)
			return &Error{Kind: Denied, Message: "the policy says no"}
		}))
		for _, of := range endpoints() {
			_, err := of.ask(t.Context(), s, linked)
			wantError(t, err, Denied, "the policy says no")
		}
		b.wantCalls(0)
		if len(asked) != 2 || asked[0] != linked || asked[1] != linked {
			t.Errorf("the policy was asked about %v", asked)
		}
	})
}

func TestWhatThePolicyAllowsIsMinted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheBench(t)
		for _, of := range endpoints() {
			token, err := of.ask(t.Context(), b.guarded(AllowAll{}), linked)
			if err != nil || token.Value() == "" {
				t.Errorf("%s: %v", of.name, err)
			}
		}
	})
}

func TestPolicyIsNotAskedAboutAWorkloadWithoutServiceAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheBench(t)
		s := b.guarded(policyFunc(func(identity.Workload) error { panic("asked") }))
		for _, of := range endpoints() {
			if _, err := of.ask(t.Context(), s, unlinked); err != nil {
				t.Errorf("%s: %v", of.name, err)
			}
		}
	})
}
