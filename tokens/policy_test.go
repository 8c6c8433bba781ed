package tokens

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/identity"
)

// policyFunc is a policy that a function decides.
type policyFunc func(identity.Workload) error

func (policyFunc) Name() string { return "test" }

func (f policyFunc) Allow(_ context.Context, w identity.Workload) (string, error) {
	return "consulted", f(w)
}

func (b *cacheFixture) guardedBy(p Policy) guarded {
	return guarded{next: b.upstream, rules: new(atomic.Pointer[Rules]), policy: p, metrics: newMetrics(prometheus.NewRegistry())}
}

func TestPolicy_DeniedRequestIsNotMinted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		var seen []identity.Workload
		s := b.guardedBy(policyFunc(func(w identity.Workload) error {
			seen = append(seen, w)
			return &Error{Kind: Denied, Message: "the policy says no"}
		}))
		for _, kind := range tokenKinds() {
			_, err := kind.request(t.Context(), s, linked)
			wantError(t, err, Denied, "the policy says no")
		}
		b.wantCalls(0)
		if len(seen) != 2 || seen[0] != linked || seen[1] != linked {
			t.Errorf("the policy was consulted about %v", seen)
		}
	})
}

func TestPolicy_AllowedRequestIsMinted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		for _, kind := range tokenKinds() {
			token, err := kind.request(t.Context(), b.guardedBy(AllowAll{}), linked)
			if err != nil || token.Value() == "" {
				t.Errorf("%s: %v", kind.name, err)
			}
		}
	})
}

func TestPolicy_IsNotConsultedForUnlinkedWorkload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCacheFixture(t)
		s := b.guardedBy(policyFunc(func(identity.Workload) error { panic("consulted") }))
		for _, kind := range tokenKinds() {
			if _, err := kind.request(t.Context(), s, unlinked); err != nil {
				t.Errorf("%s: %v", kind.name, err)
			}
		}
	})
}
