package tokens

import (
	"time"

	"gke-metadata-emulator/identity"
)

// present is the workloads of a node at one moment.
type present struct {
	pods     map[string]bool
	accounts map[string]identity.Workload // one of each KSA, by the KSA's UID
	links    map[link]identity.Workload   // one of all that may ask for the same
}

type link struct{ ksa, gsa, delegates string }

func newPresent(workloads []identity.Workload) present {
	p := present{pods: map[string]bool{}, accounts: map[string]identity.Workload{}, links: map[link]identity.Workload{}}
	for _, w := range workloads {
		p.pods[w.Pod.UID], p.accounts[w.KSA.UID] = true, w
		p.links[link{w.KSA.UID, w.GSA, w.Delegates}] = w
	}
	return p
}

// linked is a workload here that may have a token of k.
func (p present) linked(k key) (identity.Workload, bool) {
	w, found := p.links[link{k.ksa, k.gsa, k.delegates}]
	return w, found
}

// linkedAnyhow is one of the KSA's, for what all tokens of a KSA begin with.
func (p present) linkedAnyhow(k key) (identity.Workload, bool) {
	w, found := p.accounts[k.ksa]
	return w, found
}

// retain drops what nobody here may have any more. Tokens that are bound are void with
// their pod.
func (c *store) retain(here present, who func(key) (identity.Workload, bool), bound bool) {
	now := c.now()
	c.drop(func(k key, e *entry, w identity.Workload) bool {
		other, found := who(k)
		_, known := here.accounts[k.ksa]
		switch {
		case e == nil: // under way
			return !found && known
		case bound && !here.pods[e.pod]:
			return true
		case found:
			e.absent = time.Time{}
			if !here.pods[w.Pod.UID] {
				e.w = other
			}
			return false
		case known: // which is annotated with another GSA now
			return true
		case e.absent.IsZero():
			e.absent = now
		}
		return now.Sub(e.absent) >= lingering
	})
}
