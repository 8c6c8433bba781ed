package daemon

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// names is the folder of a node's product name, and the one where what it held is
// kept.
func names(t *testing.T, held string) productName {
	t.Helper()
	folder := t.TempDir()
	p := productName{filepath.Join(folder, "kind", "product_name"), filepath.Join(folder, "gke-metadata-emulator", "product_name")}
	if err := os.Mkdir(filepath.Dir(p.file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.file, []byte(held), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p productName) expect(t *testing.T, want string) {
	t.Helper()
	if got, err := os.ReadFile(p.file); err != nil || string(got) != want {
		t.Errorf("the product name is %q, %v, want %q", got, err, want)
	}
}

// clean says that nothing but the file is left.
func (p productName) clean(t *testing.T) {
	t.Helper()
	var left []string
	_ = filepath.WalkDir(filepath.Dir(filepath.Dir(p.file)), func(path string, d fs.DirEntry, err error) error {
		left = append(left, d.Name())
		return err
	})
	if got := strings.Join(left[1:], " "); got != "kind product_name" {
		t.Errorf("left: %s", got)
	}
}

// The names are longer and shorter than Google's, empty, and without an end of line.
var originals = []string{"kind\n", "", "kind", "Standard PC (Q35 + ICH9, 2009), a long one\n", "a\x00b\xff\n"}

func TestTheProductNameIsGooglesUntilCleanup(t *testing.T) {
	for _, held := range originals {
		t.Run(held, func(t *testing.T) {
			p := names(t, held)
			inode, err := os.Stat(p.file)
			if err != nil {
				t.Fatal(err)
			}
			s := &Serve{DMIProductName: p.file, DMIOriginal: p.original}
			for range 3 { // restarts of the daemon
				s.presentProductName(slog.New(slog.DiscardHandler))
				p.expect(t, "Google Compute Engine\n")
			}
			// The node starts anew and writes its own name.
			if err := os.WriteFile(p.file, []byte(held), 0o644); err != nil {
				t.Fatal(err)
			}
			s.presentProductName(slog.New(slog.DiscardHandler))
			p.expect(t, "Google Compute Engine\n")
			for range 2 {
				if err := p.restore(); err != nil {
					t.Fatal(err)
				}
				p.expect(t, held)
				p.clean(t)
			}
			if now, err := os.Stat(p.file); err != nil || !os.SameFile(inode, now) {
				t.Errorf("it is another file, so that mounts of it show the old one: %v", err)
			}
		})
	}
}

// A crash stops at any of the steps; what follows goes on from there.
func TestACrashBetweenTheStepsLosesNothing(t *testing.T) {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, held := range originals {
		for name, crash := range map[string]func(*testing.T, productName){
			"what it held is half kept": func(t *testing.T, p productName) {
				must(t, os.Mkdir(filepath.Dir(p.original), 0o755))
				must(t, os.WriteFile(p.unfinished(), []byte("ki"), 0o644))
			},
			"what it held is kept": func(t *testing.T, p productName) { must(t, p.keep(held)) },
			"Google's is written, the rest of the old one is there": func(t *testing.T, p productName) {
				must(t, p.keep(held))
				overwrite(t, p.file, googleProductName)
			},
			"cleanup has written, the rest of Google's is there": func(t *testing.T, p productName) {
				must(t, p.present())
				overwrite(t, p.file, held)
			},
			"cleanup has not removed what was kept": func(t *testing.T, p productName) {
				must(t, p.present())
				must(t, p.restoreTo(held))
			},
		} {
			t.Run(name+" "+held, func(t *testing.T) {
				p := names(t, held)
				crash(t, p)
				must(t, p.restore())
				p.expect(t, held)
				p.clean(t)

				p = names(t, held)
				crash(t, p)
				must(t, p.present())
				p.expect(t, googleProductName)
				must(t, p.restore())
				p.expect(t, held)
				p.clean(t)
			})
		}
	}
}

// overwrite writes over what a file begins with.
func overwrite(t *testing.T, path, content string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(content), 0); err != nil {
		t.Fatal(err)
	}
}

// Nothing is made or changed on a node that has no such file, or another one.
func TestOtherFilesAreLeftAlone(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, file string) error
		reason string
	}{
		"no file":  {func(_ *testing.T, file string) error { return os.Remove(file) }, "no such file"},
		"a folder": {func(_ *testing.T, file string) error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o755)) }, "not a regular file"},
		"a link": {func(_ *testing.T, file string) error {
			return errors.Join(os.Rename(file, file+".x"), os.Symlink(file+".x", file))
		}, "not a regular file"},
		"a long file": {func(_ *testing.T, file string) error { return os.WriteFile(file, make([]byte, 5000), 0o644) }, "too long"},
		"a text":      {func(_ *testing.T, file string) error { return os.WriteFile(file, []byte("a\nb\n"), 0o644) }, "several lines"},
	} {
		t.Run(name, func(t *testing.T) {
			p := names(t, "kind\n")
			if err := test.change(t, p.file); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(p.file)
			var log strings.Builder
			s := &Serve{DMIProductName: p.file, DMIOriginal: p.original}
			s.presentProductName(slog.New(slog.NewTextHandler(&log, nil)))
			for _, part := range []string{"level=WARN", test.reason, p.file, "leave out --dmi-product-name"} {
				if !strings.Contains(log.String(), part) {
					t.Errorf("%q is missing in %s", part, log.String())
				}
			}
			if err := p.restore(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(p.original); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something is kept of a file that was not changed: %v", err)
			}
			if after, _ := os.ReadFile(p.file); string(after) != string(before) {
				t.Errorf("%q has become %q", before, after)
			}
		})
	}
}

func TestNothingIsKeptOfGooglesOwnName(t *testing.T) {
	p := names(t, googleProductName)
	if err := p.present(); err != nil {
		t.Fatal(err)
	}
	p.expect(t, googleProductName)
	p.clean(t)
}

func TestCleanupForgetsANodeThatHasLostItsProductName(t *testing.T) {
	p := names(t, "kind\n")
	if err := errors.Join(p.present(), os.Remove(p.file), p.restore()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file is made: %v", err)
	}
	if _, err := os.Stat(p.original); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what it held is still kept: %v", err)
	}
}

func TestFlagsOfTheProductName(t *testing.T) {
	for _, test := range []struct{ file, original, flag, text string }{
		{"product_name", "", "dmi-product-name", "/kind/product_name"},
		{KindProductName, "product_name", "dmi-original", "a file of its own"},
		{KindProductName, KindProductName, "dmi-original", "a file of its own"},
	} {
		s := federation()
		s.DMIProductName, s.DMIOriginal = test.file, test.original
		flagError(t, s.Complete(), test.flag, test.text)
		flagError(t, (&Cleanup{Interface: "lo", DMIProductName: test.file, DMIOriginal: test.original}).Complete(), test.flag, test.text)
	}
	s := federation()
	s.DMIProductName = KindProductName
	if err := s.Complete(); err != nil || s.DMIOriginal != OriginalProductName {
		t.Errorf("%v, what it held is kept in %q", err, s.DMIOriginal)
	}
}
