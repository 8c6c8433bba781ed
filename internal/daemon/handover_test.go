package daemon

import (
	"bytes"
	"errors"
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
	"gke-metadata-emulator/internal/handover"
)

// memory is a folder of the test's own on a tmpfs.
func memory(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/dev/shm", "daemon-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

// handing is settings of a daemon that hands over its tokens.
func handing(t *testing.T) *Serve {
	t.Helper()
	s := federation()
	s.HandoverFile, s.HandoverKeyFile = filepath.Join(memory(t), "tokens"), file(t, strings.Repeat("k", handover.MinKey))
	return s
}

// someEngine has a text for its tokens.
type someEngine struct {
	change.Signal
	tokens, terms string
	refuses       error
}

func (e *someEngine) Snapshot(int) []byte      { return []byte(e.tokens) }
func (e *someEngine) Fingerprint() []byte      { return []byte(e.terms) }
func (e *someEngine) Changed() <-chan struct{} { return e.Next() }

func (e *someEngine) Restore(snapshot []byte) (int, error) {
	if e.refuses != nil {
		return 0, e.refuses
	}
	e.tokens = string(snapshot)
	return 1, nil
}

// instance is one with these settings, and what it logs.
func instance(t *testing.T, s *Serve, e *someEngine) (*handingOver, *bytes.Buffer) {
	t.Helper()
	file, err := s.openHandover()
	if err != nil {
		t.Fatal(err)
	}
	log := &bytes.Buffer{}
	return newHandingOver(file, e, s.holder(), prometheus.NewRegistry(), logging.logger(log)), log
}

func TestTheNextInstanceGetsTheTokensUnderTheSameSettingsOnly(t *testing.T) {
	damage := func(s *Serve) { _ = os.Truncate(s.HandoverFile, 50) }
	for name, test := range map[string]struct {
		change func(t *testing.T, s *Serve, e *someEngine)
		result string
	}{
		"the same":                 {func(*testing.T, *Serve, *someEngine) {}, "restored"},
		"no file":                  {func(_ *testing.T, s *Serve, _ *someEngine) { s.HandoverFile += "2" }, "none"},
		"another node":             {func(_ *testing.T, s *Serve, _ *someEngine) { s.NodeName = "node-2" }, "refused"},
		"other terms":              {func(_ *testing.T, _ *Serve, e *someEngine) { e.terms = "others" }, "refused"},
		"another key":              {func(t *testing.T, s *Serve, _ *someEngine) { s.HandoverKeyFile = file(t, strings.Repeat("l", 32)) }, "refused"},
		"a damaged file":           {func(_ *testing.T, s *Serve, _ *someEngine) { damage(s) }, "refused"},
		"a form that is not known": {func(_ *testing.T, _ *Serve, e *someEngine) { e.refuses = errors.New("not of this form") }, "refused"},
		"another credential": {func(t *testing.T, s *Serve, _ *someEngine) {
			s.Credentials, s.Provider, s.Number, s.SourceCredentials = Impersonation, "", "998877665544", file(t, user)
		}, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			s := handing(t)
			before, _ := instance(t, s, &someEngine{tokens: secret, terms: "rules"})
			if err := before.write(); err != nil {
				t.Fatal(err)
			}
			next, e := *s, &someEngine{terms: "rules"}
			test.change(t, &next, e)
			h, log := instance(t, &next, e)
			h.restore()
			if (e.tokens == secret) != (test.result == "restored") || testutil.ToFloat64(h.reads.WithLabelValues(test.result)) != 1 {
				t.Errorf("the tokens are %q, and the result is not %s:\n%s", e.tokens, test.result, log)
			}
			if strings.Count(log.String(), "\n") != 1 || strings.Contains(log.String(), secret) {
				t.Errorf("the log says:\n%s", log)
			}
		})
	}
}

func TestAHandoverThatCannotBeIsAnErrorOfItsFlag(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(*testing.T, *Serve)
		flag  string
		text  string
	}{
		{"a folder on a disk", func(t *testing.T, s *Serve) { s.HandoverFile = filepath.Join(t.TempDir(), "tokens") }, "handover-file", "is not on a tmpfs"},
		{"a folder that is missing", func(_ *testing.T, s *Serve) { s.HandoverFile = "/nonexistent/tokens" }, "handover-file", "give one on a tmpfs, like /run/"},
		{"a key that is missing", func(_ *testing.T, s *Serve) { s.HandoverKeyFile = "/nonexistent/key" }, "handover-key-file", "/nonexistent/key"},
		{"a short key", func(t *testing.T, s *Serve) { s.HandoverKeyFile = file(t, secret[:20]) }, "handover-key-file", "holds 20 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := aside(handing(t))
			test.spoil(t, s)
			if err := s.Complete(); err != nil {
				t.Fatal(err)
			}
			err := s.Run(t.Context(), t.Output())
			flagError(t, err, test.flag, test.text)
			if strings.Contains(err.Error(), secret[:20]) {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
}

// someFile remembers what was written when.
type someFile struct {
	start    time.Time
	at       []time.Duration
	contents []string
	err      error
}

func (f *someFile) Read([]byte) ([]byte, error) { return nil, os.ErrNotExist }

func (f *someFile) Write(content, _ []byte) error {
	f.at, f.contents = append(f.at, time.Since(f.start)), append(f.contents, string(content))
	return f.err
}

// keeping runs a handing over in a bubble until the test ends.
func keeping(t *testing.T, f *someFile, e *someEngine) *bytes.Buffer {
	log := &bytes.Buffer{}
	f.start = time.Now()
	h := newHandingOver(f, e, "", prometheus.NewRegistry(), logging.logger(log))
	g := newGroup(t.Context())
	g.Go(func() error { h.run(g.ctx); return nil })
	t.Cleanup(func() { g.stop(); _ = g.Wait() })
	synctest.Wait()
	return log
}

func TestTokensAreLeftSoonAfterTheyChangedAndNotOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e := &someFile{}, &someEngine{tokens: "0"}
		keeping(t, f, e)
		if !slices.Equal(f.contents, []string{"0"}) {
			t.Errorf("at the start %q is written", f.contents)
		}
		time.Sleep(time.Hour)
		for range 50 { // half a second
			e.tokens += "+"
			e.Raise()
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(2 * handoverPause)
		synctest.Wait()
		if len(f.contents) != 2 || f.contents[1] != e.tokens {
			t.Fatalf("%q is written", f.contents)
		}
		if after := f.at[1] - time.Hour; after < handoverPause || after > 2*handoverPause {
			t.Errorf("written %s after the first change", after)
		}
		time.Sleep(time.Hour)
		if len(f.contents) != 2 {
			t.Errorf("%d writes without a change", len(f.contents)-2)
		}
	})
}

func TestAWriteThatFailsIsTriedAgainSeldomAndSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e := &someFile{err: errors.New("no space left on device")}, &someEngine{tokens: secret}
		log := keeping(t, f, e)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(f.at); n < 30 || n > 70 {
			t.Errorf("%d attempts in an hour", n)
		}
		if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "no space left") || strings.Contains(text, secret) {
			t.Errorf("the log says:\n%s", text)
		}
	})
}

func TestCleanupRemovesTheTokensThatWereLeft(t *testing.T) {
	folder := filepath.Join(memory(t), "gke-metadata-emulator")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "handover")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// It goes on where another part of it fails.
	if err := (&Cleanup{Interface: "nosuch0", HandoverFile: path}).Run(); err == nil || strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}
