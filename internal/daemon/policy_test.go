package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/tokens"
)

// engineLog counts the rules that an engine was given, and is the log.
type engineLog struct {
	mu    sync.Mutex
	taken int
	log   bytes.Buffer
}

// SetRules implements [rulesTaker].
func (e *engineLog) SetRules(*tokens.Rules) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.taken++
}

// Write implements [io.Writer].
func (e *engineLog) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.log.Write(p)
}

// read returns how many rules were given so far, and the log since the last read.
func (e *engineLog) read() (taken int, log string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer e.log.Reset()
	return e.taken, e.log.String()
}

func TestPolicyFile_IsReloadedAndRefusedIfInvalid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const one, two, bad = "allow: []\n", "limits: []\n", "allow:\n- ksa: nonsense\n"
		file := filepath.Join(t.TempDir(), "policy.yaml")
		write := func(content string) {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		engine := &engineLog{}
		registry := prometheus.NewRegistry()
		w := newRulesWatcher(file, engine, registry, slog.New(slog.NewTextHandler(engine, nil)))
		expect := func(step string, wantTaken int, changes, refusals float64, log string) {
			t.Helper()
			time.Sleep(10 * time.Second) // of the bubble's clock; the file is read several times
			synctest.Wait()
			taken, logged := engine.read()
			if taken != wantTaken {
				t.Errorf("%s: %d rules were taken, want %d", step, taken, wantTaken)
			}
			for result, want := range map[string]float64{"taken": changes, "refused": refusals} {
				if got := counted(t, registry, "gme_policy_file_changes_total", result); got != want {
					t.Errorf("%s: %v counted as %s, want %v", step, got, result, want)
				}
			}
			if log == "" && logged != "" || !strings.Contains(logged, log) {
				t.Errorf("%s: log %q, want %q", step, logged, log)
			}
		}

		write(one)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx) }()
		expect("at the start", 1, 0, 0, "")
		expect("no change", 1, 0, 0, "")
		write(two)
		expect("a change", 2, 1, 0, "the policy file has changed")
		write(bad)
		expect("a mistake", 2, 1, 1, "is neither NAMESPACE/NAME nor NAMESPACE/*")
		expect("the same mistake", 2, 1, 1, "")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		expect("removed", 2, 1, 2, "no such file")
		write(two)
		expect("restored", 2, 1, 2, "")
		write(bad)
		expect("the mistake repeated", 2, 1, 3, "its previous content stays in effect")
		write(one)
		expect("fixed", 3, 2, 3, "the policy file has changed")
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// counted returns the values of a counter with one label.
func counted(t *testing.T, registry *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == name && metric.GetLabel()[0].GetValue() == label {
				return metric.GetCounter().GetValue()
			}
		}
	}
	return 0
}
