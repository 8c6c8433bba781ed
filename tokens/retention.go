package tokens

import (
	"context"
	"math/rand/v2"
	"time"

	"gke-metadata-emulator/identity"
)

// absenceGrace is how long the tokens of a KSA are kept after its last pod on the node
// has gone: the next pod often starts at once.
const absenceGrace = time.Minute

// Workloads knows the pods of the node.
type Workloads interface {
	// Workloads returns the workloads that may request tokens.
	Workloads() []identity.Workload
	// Changed returns a channel that is closed when the workloads can have changed; nil
	// if they never change.
	Changed() <-chan struct{}
	// Ready returns nil once all workloads are known.
	Ready() error
}

// Follow forgets tokens that no workload on the node may have any more, until ctx ends:
// at once the tokens of a GSA if its KSA is annotated with another, and the KSA tokens of
// pods that are gone; after a minute all tokens of a KSA whose last pod on the node is
// gone. These are not renewed meanwhile. Follow waits until all workloads are known:
// otherwise restored tokens would be forgotten while their workload is not yet known.
func (e *Engine) Follow(ctx context.Context, workloads Workloads) {
	ticker := time.NewTicker(absenceGrace / 2)
	defer ticker.Stop()
	for ready := false; ; {
		changed := workloads.Changed() // taken before the look, so no change is missed
		if ready = ready || workloads.Ready() == nil; ready {
			e.retain(newActiveWorkloads(workloads.Workloads()))
		}
		select {
		case <-changed:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (e *Engine) retain(active activeWorkloads) {
	e.tokens.retain(active, active.linked, false)
	for _, store := range e.credentialStores {
		store.retain(active, active.anyOfKSA, store == e.ksaTokens)
	}
}

// activeWorkloads indexes the workloads of a node at one moment.
type activeWorkloads struct {
	pods   map[string]bool              // by UID
	byKSA  map[string]identity.Workload // one workload of each KSA, by the KSA's UID
	byLink map[link]identity.Workload   // one workload of each link
}

// link decides which GSA a workload may use.
type link struct{ ksa, gsa, delegates string }

func newActiveWorkloads(workloads []identity.Workload) activeWorkloads {
	a := activeWorkloads{pods: map[string]bool{}, byKSA: map[string]identity.Workload{}, byLink: map[link]identity.Workload{}}
	for _, w := range workloads {
		a.pods[w.Pod.UID], a.byKSA[w.KSA.UID] = true, w
		a.byLink[link{w.KSA.UID, w.GSA, w.Delegates}] = w
	}
	return a
}

// linked returns an active workload that may have the token of k.
func (a activeWorkloads) linked(k key) (identity.Workload, bool) {
	w, found := a.byLink[link{k.ksa, k.gsa, k.delegates}]
	return w, found
}

// anyOfKSA returns an active workload of k's KSA, whatever GSA it is linked to. It owns
// the KSA tokens and federated tokens, which all tokens of a KSA are minted with.
func (a activeWorkloads) anyOfKSA(k key) (identity.Workload, bool) {
	w, found := a.byKSA[k.ksa]
	return w, found
}

// retain drops the tokens for which owner finds no active workload. Tokens that are
// bound to a pod become invalid with it, and are dropped at once.
func (c *store) retain(active activeWorkloads, owner func(key) (identity.Workload, bool), boundToPod bool) {
	now := c.now()
	c.drop(func(k key, e *entry, w identity.Workload) bool {
		other, found := owner(k)
		_, ksaIsActive := active.byKSA[k.ksa]
		switch {
		case e == nil: // an attempt in flight
			return !found && ksaIsActive
		case boundToPod && !active.pods[e.podUID]:
			return true
		case found:
			e.absentSince = time.Time{}
			if !active.pods[w.Pod.UID] {
				e.workload = other
			}
			return false
		case ksaIsActive: // it is annotated with another GSA now
			return true
		case e.absentSince.IsZero():
			e.absentSince = now
		}
		return now.Sub(e.absentSince) >= absenceGrace
	})
}

// forgetFailures forgets all failures and discards the attempts in flight. Tokens whose
// renewal has failed or is discarded are renewed soon.
func (c *store) forgetFailures() {
	now := c.now()
	c.drop(func(_ key, e *entry, _ identity.Workload) bool {
		if e == nil || !now.Before(e.token.Expiry) {
			return true // an attempt in flight, or a failure without a token
		}
		if e.renewing || e.failures > 0 {
			e.renewing, e.failures, e.lastFailure, e.notBefore = false, 0, nil, time.Time{}
			e.renewAt = now.Add(rand.N(overdueSpread))
			e.timer.Reset(e.nextWake().Sub(now))
		}
		return false
	})
}
