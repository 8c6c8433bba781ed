package dmi

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newProductName writes the product name of a node, in folders like those of kind.
func newProductName(t *testing.T, original string) ProductName {
	t.Helper()
	folder := t.TempDir()
	p := ProductName{
		File: filepath.Join(folder, "kind", "product_name"), OriginalFile: filepath.Join(folder, "gke-metadata-emulator", "product_name"),
		Log: slog.New(slog.DiscardHandler),
	}
	if err := os.Mkdir(filepath.Dir(p.File), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.File, []byte(original), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p ProductName) expect(t *testing.T, want string) {
	t.Helper()
	if got, err := os.ReadFile(p.File); err != nil || string(got) != want {
		t.Errorf("the product name is %q, %v, want %q", got, err, want)
	}
}

// clean fails the test if anything but the file is left.
func (p ProductName) clean(t *testing.T) {
	t.Helper()
	var left []string
	_ = filepath.WalkDir(filepath.Dir(filepath.Dir(p.File)), func(path string, d fs.DirEntry, err error) error {
		left = append(left, d.Name())
		return err
	})
	if got := strings.Join(left[1:], " "); got != "kind product_name" {
		t.Errorf("left: %s", got)
	}
}

// originals are longer and shorter than Google's name, empty, and without a line feed.
var originals = []string{"kind\n", "", "kind", "Standard PC (Q35 + ICH9, 2009), a long one\n", "a\x00b\xff\n"}

func TestProductName_IsGooglesUntilRestored(t *testing.T) {
	for _, original := range originals {
		t.Run(original, func(t *testing.T) {
			p := newProductName(t, original)
			inode, err := os.Stat(p.File)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 { // restarts of the daemon
				p.Override()
				p.expect(t, "Google Compute Engine\n")
			}
			// The node restarts and writes its own name.
			if err := os.WriteFile(p.File, []byte(original), 0o644); err != nil {
				t.Fatal(err)
			}
			p.Override()
			p.expect(t, "Google Compute Engine\n")
			for range 2 {
				if err := p.Restore(); err != nil {
					t.Fatal(err)
				}
				p.expect(t, original)
				p.clean(t)
			}
			if now, err := os.Stat(p.File); err != nil || !os.SameFile(inode, now) {
				t.Errorf("the file was replaced, so its mounts show the old one: %v", err)
			}
		})
	}
}

func TestProductName_IsRestoredAfterACrashAtAnyStep(t *testing.T) {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, original := range originals {
		for name, crash := range map[string]func(*testing.T, ProductName){
			"the copy is partly written": func(t *testing.T, p ProductName) {
				must(t, os.Mkdir(filepath.Dir(p.OriginalFile), 0o755))
				must(t, os.WriteFile(p.temporaryFile(), []byte("ki"), 0o644))
			},
			"the copy is written": func(t *testing.T, p ProductName) { must(t, p.saveOriginal(original)) },
			"Google's name is written, not truncated": func(t *testing.T, p ProductName) {
				must(t, p.saveOriginal(original))
				overwrite(t, p.File, googleProductName)
			},
			"the original is written back, not truncated": func(t *testing.T, p ProductName) {
				must(t, p.override())
				overwrite(t, p.File, original)
			},
			"the copy is not removed": func(t *testing.T, p ProductName) {
				must(t, p.override())
				must(t, p.writeBack(original))
			},
		} {
			t.Run(name+" "+original, func(t *testing.T) {
				p := newProductName(t, original)
				crash(t, p)
				must(t, p.Restore())
				p.expect(t, original)
				p.clean(t)

				p = newProductName(t, original)
				crash(t, p)
				must(t, p.override())
				p.expect(t, googleProductName)
				must(t, p.Restore())
				p.expect(t, original)
				p.clean(t)
			})
		}
	}
}

// overwrite replaces the beginning of a file.
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

func TestProductName_LeavesOtherFilesAlone(t *testing.T) {
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
			p := newProductName(t, "kind\n")
			if err := test.change(t, p.File); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(p.File)
			var log strings.Builder
			p.Log = slog.New(slog.NewTextHandler(&log, nil))
			p.Override()
			for _, part := range []string{"level=WARN", test.reason, p.File, "--dmi-product-name works on kind nodes"} {
				if !strings.Contains(log.String(), part) {
					t.Errorf("%q is missing in %s", part, log.String())
				}
			}
			if err := p.Restore(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(p.OriginalFile); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a copy of an unchanged file is stored: %v", err)
			}
			if after, _ := os.ReadFile(p.File); string(after) != string(before) {
				t.Errorf("%q has become %q", before, after)
			}
		})
	}
}

func TestProductName_StoresNoCopyOfGooglesName(t *testing.T) {
	p := newProductName(t, googleProductName)
	if err := p.override(); err != nil {
		t.Fatal(err)
	}
	p.expect(t, googleProductName)
	p.clean(t)
}

func TestProductName_RestoreToleratesARemovedFile(t *testing.T) {
	p := newProductName(t, "kind\n")
	if err := errors.Join(p.override(), os.Remove(p.File), p.Restore()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.File); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file was created: %v", err)
	}
	if _, err := os.Stat(p.OriginalFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the copy is still there: %v", err)
	}
}
