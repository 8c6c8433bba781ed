package handover

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

	"gke-metadata-emulator/internal/change"
)

const snapshotText = "ya29.k33p3r"

// fakeEngine is an engine whose tokens are a text.
type fakeEngine struct {
	change.Signal
	tokens, fingerprint string
	restoreErr          error
}

func (e *fakeEngine) Snapshot(int) []byte      { return []byte(e.tokens) }
func (e *fakeEngine) Fingerprint() []byte      { return []byte(e.fingerprint) }
func (e *fakeEngine) Changed() <-chan struct{} { return e.Next() }

func (e *fakeEngine) Restore(snapshot []byte) (int, error) {
	if e.restoreErr != nil {
		return 0, e.restoreErr
	}
	e.tokens = string(snapshot)
	return 1, nil
}

// instance is the settings of an instance that hands over its tokens.
type instance struct {
	path, owner string
	key         byte
	engine      *fakeEngine
}

func (i instance) keeper(t *testing.T) (*Keeper, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	return NewKeeper(KeeperOptions{
		File: open(t, i.path, key(i.key)), Engine: i.engine, Owner: func() string { return i.owner }, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.NewTextHandler(log, nil)),
	}), log
}

func TestKeeper_RestoresTokensOnlyUnderTheSameSettings(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*instance)
		result string
	}{
		"same settings":    {func(*instance) {}, "restored"},
		"no file":          {func(i *instance) { i.path += "2" }, "none"},
		"another owner":    {func(i *instance) { i.owner = "node-2" }, "refused"},
		"other settings":   {func(i *instance) { i.engine.fingerprint = "others" }, "refused"},
		"another key":      {func(i *instance) { i.key++ }, "refused"},
		"damaged file":     {func(i *instance) { _ = os.Truncate(i.path, 50) }, "refused"},
		"unknown snapshot": {func(i *instance) { i.engine.restoreErr = errors.New("unknown version") }, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			previous := instance{path: filepath.Join(memory(t), "tokens"), owner: "node-1", key: 'k', engine: &fakeEngine{tokens: snapshotText, fingerprint: "rules"}}
			k, _ := previous.keeper(t)
			if err := k.write(); err != nil {
				t.Fatal(err)
			}
			next := previous
			next.engine = &fakeEngine{fingerprint: "rules"}
			test.change(&next)
			k, log := next.keeper(t)
			k.Restore()
			if (next.engine.tokens == snapshotText) != (test.result == "restored") || testutil.ToFloat64(k.reads.WithLabelValues(test.result)) != 1 {
				t.Errorf("the tokens are %q, and the result is not %s:\n%s", next.engine.tokens, test.result, log)
			}
			if strings.Count(log.String(), "\n") != 1 || strings.Contains(log.String(), snapshotText) {
				t.Errorf("the log is\n%s", log)
			}
		})
	}
}

// fakeFile records its writes, with their time since start.
type fakeFile struct {
	start    time.Time
	times    []time.Duration
	contents []string
	err      error
}

func (f *fakeFile) Read([]byte) ([]byte, error) { return nil, os.ErrNotExist }

func (f *fakeFile) Write(content, _ []byte) error {
	f.times, f.contents = append(f.times, time.Since(f.start)), append(f.contents, string(content))
	return f.err
}

// run runs a keeper in a bubble until the test ends.
func run(t *testing.T, f *fakeFile, e *fakeEngine) *bytes.Buffer {
	t.Helper()
	log := &bytes.Buffer{}
	f.start = time.Now()
	k := NewKeeper(KeeperOptions{File: f, Engine: e, Owner: func() string { return "node-1" }, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.NewTextHandler(log, nil))})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- k.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return log
}

func TestKeeper_WritesSoonAfterChangesAndNotForEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e := &fakeFile{}, &fakeEngine{tokens: "0"}
		run(t, f, e)
		if !slices.Equal(f.contents, []string{"0"}) {
			t.Errorf("first writes %q, want 0", f.contents)
		}
		time.Sleep(time.Hour)
		for range 50 { // half a second
			e.tokens += "+"
			e.Raise()
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(2 * writeDelay)
		synctest.Wait()
		if len(f.contents) != 2 || f.contents[1] != e.tokens {
			t.Fatalf("writes %q, want two", f.contents)
		}
		if after := f.times[1] - time.Hour; after < writeDelay || after > 2*writeDelay {
			t.Errorf("written %s after the first change", after)
		}
		time.Sleep(time.Hour)
		if len(f.contents) != 2 {
			t.Errorf("%d writes without a change", len(f.contents)-2)
		}
	})
}

func TestKeeper_RetriesFailedWritesWithBackoffAndLogsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e := &fakeFile{err: errors.New("no space left on device")}, &fakeEngine{tokens: snapshotText}
		log := run(t, f, e)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(f.times); n < 30 || n > 70 {
			t.Errorf("%d attempts in an hour", n)
		}
		if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "no space left") || strings.Contains(text, snapshotText) {
			t.Errorf("the log is\n%s", text)
		}
	})
}

func TestRemove_RemovesTheFolderIfItIsOurs(t *testing.T) {
	for folder, removed := range map[string]bool{"gke-metadata-emulator": true, "other": false} {
		folder = filepath.Join(memory(t), folder)
		path := filepath.Join(folder, "handover")
		if err := errors.Join(os.Mkdir(folder, 0o700), os.WriteFile(path, nil, 0o600), Remove(path), Remove(path)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(folder); errors.Is(err, os.ErrNotExist) != removed {
			t.Errorf("%s: %v, removed should be %t", folder, err, removed)
		}
	}
}
