package daemon

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"gke-metadata-emulator/tokens"
)

// rulesTaken are the rules that somebody was given, in turn.
type rulesTaken []*tokens.Rules

func (r *rulesTaken) SetRules(rules *tokens.Rules) { *r = append(*r, rules) }

func TestAChangedPolicyFileIsTakenAndABadOneKeepsWhatHolds(t *testing.T) {
	const one, two, bad = "allow: []\n", "limits: []\n", "allow:\n- ksa: nonsense\n"
	file := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(content string) {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var taken rulesTaken
	var logged bytes.Buffer
	r := newRulesReloader(file, &taken, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&logged, nil)))
	look := func(what string, wantTaken int, changes, refusals float64, log string) {
		t.Helper()
		logged.Reset()
		r.look()
		if len(taken) != wantTaken {
			t.Errorf("%s: %d rules were taken, want %d", what, len(taken), wantTaken)
		}
		for result, want := range map[string]float64{"taken": changes, "refused": refusals} {
			if got := testutil.ToFloat64(r.loads.WithLabelValues(result)); got != want {
				t.Errorf("%s: %v counted as %s, want %v", what, got, result, want)
			}
		}
		if got := logged.String(); log == "" && got != "" || !strings.Contains(got, log) {
			t.Errorf("%s: the log says %q, want %q", what, got, log)
		}
	}

	write(one)
	look("at the start", 1, 0, 0, "")
	look("no change", 1, 0, 0, "")
	write(two)
	look("a change", 2, 1, 0, "the policy file has changed")
	write(bad)
	look("a mistake", 2, 1, 1, "is neither NAMESPACE/NAME nor NAMESPACE/*")
	look("the same mistake", 2, 1, 1, "")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	look("gone", 2, 1, 2, "no such file")
	write(two)
	look("as it was", 2, 1, 2, "")
	write(bad)
	look("the mistake again", 2, 1, 3, "what it said before is kept")
	write(one)
	look("mended", 3, 2, 3, "the policy file has changed")
}
