package conformance

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// On our own server, for each kind of caller.
func TestCases_PassOnOwnServer(t *testing.T) {
	var mu sync.Mutex
	applied := map[string]bool{}
	t.Run("callers", func(t *testing.T) {
		for kind, backend := range backends() {
			t.Run(string(kind), func(t *testing.T) {
				t.Parallel()
				for _, r := range run(t, Options{Target: serve(t, backend)}) {
					mu.Lock()
					applied[r.Name] = applied[r.Name] || r.Outcome != NotApplicable
					mu.Unlock()
					if r.Outcome == Fail {
						var b strings.Builder
						_ = r.Text(&b)
						t.Error(b.String())
					}
				}
			})
		}
	})
	for _, c := range Cases() {
		if !applied[c.Name] {
			t.Errorf("the case %s applies to no kind of caller", c.Name)
		}
	}
}

func TestCases_HaveUniqueNameAndSource(t *testing.T) {
	names := map[string]bool{}
	for _, c := range Cases() {
		subject, fact, _ := strings.Cut(c.Name, "/")
		if names[c.Name] || subject == "" || fact == "" || c.Source == "" || c.check == nil {
			t.Errorf("the case %q (%q, %q) has no unique name, no source or no check", c.Name, c.Truth, c.Source)
		}
		names[c.Name] = true
	}
}

// GKE gets keys that it had not: without its month, nobody can tell an outdated case.
func TestCases_AboutAbsentKeysHaveMonthOfSource(t *testing.T) {
	for _, c := range Cases() {
		if !strings.HasPrefix(c.Name, "absent/") {
			continue
		}
		if _, err := time.Parse("2006-01", c.AsOf); err != nil || !strings.HasSuffix(c.Evidence(), "; as of "+c.AsOf) {
			t.Errorf("the case %q has the month %q and the evidence %q: %v", c.Name, c.AsOf, c.Evidence(), err)
		}
	}
}
