package conformance

import (
	"strings"
	"sync"
	"testing"
)

// Our own server, for each kind of callers.
func TestEveryCasePassesOnTheServer(t *testing.T) {
	var mu sync.Mutex
	applied := map[string]bool{}
	t.Run("callers", func(t *testing.T) {
		for kind, world := range worlds() {
			t.Run(string(kind), func(t *testing.T) {
				t.Parallel()
				for _, r := range run(t, Options{Target: serve(t, world)}) {
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
			t.Errorf("%s applies to no caller", c.Name)
		}
	}
}

func TestEveryCaseHasANameOfItsOwnATruthAndASource(t *testing.T) {
	names := map[string]bool{}
	for _, c := range Cases() {
		subject, what, _ := strings.Cut(c.Name, "/")
		if names[c.Name] || subject == "" || what == "" || c.Source == "" || c.check == nil {
			t.Errorf("%q (%q, %q)", c.Name, c.Truth, c.Source)
		}
		names[c.Name] = true
	}
}
