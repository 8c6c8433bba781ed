package filewatch

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// fixture is a watched file whose content is its value, unless it contains "bad".
type fixture struct {
	t     *testing.T
	path  string
	taken []string
	log   bytes.Buffer
	Options[string]
	*Watcher[string]
}

func newFixture(t *testing.T, change func(*Options[string])) *fixture {
	t.Helper()
	f := &fixture{t: t, path: filepath.Join(t.TempDir(), "settings.yaml")}
	f.Options = Options[string]{
		Path: f.path, Title: "settings file",
		Parse: func(content []byte) (string, error) {
			if bytes.Contains(content, []byte("bad")) {
				return "", errors.New("invalid: " + string(content))
			}
			return string(content), nil
		},
		Take:    func(value string) { f.taken = append(f.taken, value) },
		Changes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "changes"}, []string{"result"}),
		Log:     slog.New(slog.NewTextHandler(&f.log, nil)),
	}
	if change != nil {
		change(&f.Options)
	}
	f.Watcher = New(f.Options)
	return f
}

func (f *fixture) write(content string) {
	f.t.Helper()
	if err := os.WriteFile(f.path, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// expect polls and compares all values taken so far, the counters, and the log of
// this poll.
func (f *fixture) expect(step string, taken []string, changes, refusals float64, log string) {
	f.t.Helper()
	f.log.Reset()
	f.poll()
	if !slices.Equal(f.taken, taken) {
		f.t.Errorf("%s: took %q, want %q", step, f.taken, taken)
	}
	for result, want := range map[string]float64{"taken": changes, "refused": refusals} {
		if got := testutil.ToFloat64(f.Changes.WithLabelValues(result)); got != want {
			f.t.Errorf("%s: %v counted as %s, want %v", step, got, result, want)
		}
	}
	if got := f.log.String(); log == "" && got != "" || !strings.Contains(got, log) {
		f.t.Errorf("%s: log %q, want %q", step, got, log)
	}
}

func TestWatcher_TakesValidContentAndKeepsThePreviousIfInvalid(t *testing.T) {
	f := newFixture(t, nil)
	f.write("one")
	f.expect("first content", []string{"one"}, 0, 0, "")
	f.expect("no change", []string{"one"}, 0, 0, "")
	f.write("two")
	f.expect("change", []string{"one", "two"}, 1, 0, "the settings file has changed")
	f.write("bad")
	f.expect("mistake", []string{"one", "two"}, 1, 1, "the settings file is refused; its previous content stays in effect")
	f.expect("same mistake", []string{"one", "two"}, 1, 1, "")
	f.write("bad again")
	f.expect("another mistake", []string{"one", "two"}, 1, 2, "bad again")
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	f.expect("file removed", []string{"one", "two"}, 1, 3, "no such file")
	f.write("two")
	f.expect("content in effect restored", []string{"one", "two"}, 1, 3, "")
	f.write("bad again")
	f.expect("mistake repeated", []string{"one", "two"}, 1, 4, "bad again")
	f.write("")
	f.expect("emptied", []string{"one", "two", ""}, 2, 4, "has changed")
	f.expect("still empty", []string{"one", "two", ""}, 2, 4, "")
}

func TestWatcher_ComparesWithTheInitialValue(t *testing.T) {
	initial := "one"
	f := newFixture(t, func(o *Options[string]) {
		o.Initial = &initial
		o.Equal = strings.EqualFold
		o.LogAttrs = func(value string) []any { return []any{"length", len(value)} }
	})
	f.write("ONE")
	f.expect("equal to the initial value", nil, 0, 0, "")
	f.write("three")
	f.expect("change", []string{"three"}, 1, 0, "length=5")
	f.write("Three")
	f.expect("equal content", []string{"three"}, 1, 0, "")
}

func TestWatcher_PollsUntilTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.write("one")
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.Run(ctx) }()
		synctest.Wait()
		f.write("two")
		time.Sleep(period * 3 / 2)
		synctest.Wait()
		if !slices.Equal(f.taken, []string{"one", "two"}) {
			t.Errorf("took %q", f.taken)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// The kubelet updates a mounted Secret or ConfigMap by replacing the link ..data, which the
// link of each file goes through (AtomicWriter in k8s.io/kubernetes/pkg/volume/util).
func TestWatcher_FollowsKubeletsUpdate(t *testing.T) {
	f := newFixture(t, nil)
	volume := filepath.Dir(f.path)
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(volume, name)); err != nil {
			t.Fatal(err)
		}
	}
	update := func(folder, content string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(volume, folder), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(volume, folder, filepath.Base(f.path)), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		link(folder, "..data_tmp")
		if err := os.Rename(filepath.Join(volume, "..data_tmp"), filepath.Join(volume, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	link(filepath.Join("..data", filepath.Base(f.path)), filepath.Base(f.path))
	update("..2026_01", "one")
	f.expect("first content", []string{"one"}, 0, 0, "")
	update("..2026_02", "two")
	if err := os.RemoveAll(filepath.Join(volume, "..2026_01")); err != nil {
		t.Fatal(err)
	}
	f.expect("update", []string{"one", "two"}, 1, 0, "the settings file has changed")
}
