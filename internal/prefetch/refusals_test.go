package prefetch

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

// forgotten are the GSAs whose refusals were forgotten.
type forgotten []string

func (f *forgotten) ForgetRefusals(w identity.Workload) { *f = append(*f, w.GSA) }

// A refusal that no pod has asked for must not answer a pod.
func TestPrefetch_ForgetsRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{}
		n.set(linked("refused", "refused@x"), linked("ready", "ready@x"))
		var f forgotten
		p := New(Options{Identity: n, Refusals: &f, Scopes: []tokens.Scopes{tokens.DefaultScopes()}, Tokens: source(func(w identity.Workload, _ tokens.Scopes) error {
			if w.GSA == "refused@x" {
				return &tokens.Error{Kind: tokens.Denied}
			}
			return nil
		})})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := p.Run(ctx); err != nil || !slices.Equal(f, []string{"refused@x"}) {
			t.Errorf("forgotten %v, %v", f, err)
		}
	})
}

// Refusals of the prefetch are not cached for the pods, so they must not be repeated for
// each new pod.
func TestPrefetch_RequestsRefusedTokenOnceForAllPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{}
		var workloads []identity.Workload
		for i := range 100 {
			w := linked(fmt.Sprint("pod-", i), "refused@x")
			w.KSA.UID = "cart"
			workloads = append(workloads, w)
		}
		n.set(workloads...)
		var requests atomic.Int64
		p := New(Options{Identity: n, Refusals: &forgotten{}, Scopes: []tokens.Scopes{tokens.DefaultScopes()}, Tokens: source(func(identity.Workload, tokens.Scopes) error {
			requests.Add(1)
			return &tokens.Error{Kind: tokens.Denied}
		})})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
		// Pods of the start are spread over five seconds, and several can be in flight.
		if got := requests.Load(); got < 1 || got > 2*concurrency {
			t.Errorf("%d requests for 100 pods", got)
		}
	})
}
