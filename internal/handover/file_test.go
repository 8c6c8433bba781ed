package handover

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const maxAge = time.Hour

var (
	secret  = []byte("ya29.S3CR3T-T0K3N")
	binding = []byte("node-1, rules 7")
)

// memory returns a new folder on a tmpfs.
func memory(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/dev/shm", "handover-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

func key(fill byte) []byte { return bytes.Repeat([]byte{fill}, MinKey) }

func open(t *testing.T, path string, key []byte) *File {
	t.Helper()
	f, err := New(path, key, maxAge, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// written returns a file that contains the secret, and its path.
func written(t *testing.T) (*File, string) {
	t.Helper()
	path := filepath.Join(memory(t), "file")
	f := open(t, path, key(1))
	if err := f.Write(secret, binding); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Read(binding); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("%v, or the content is not the secret", err)
	}
	return f, path
}

// refused fails the test unless the file is refused for the reason.
func refused(t *testing.T, f *File, binding []byte, reason string) {
	t.Helper()
	got, err := f.Read(binding)
	if got != nil || err == nil || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), string(secret)) {
		t.Errorf("%d bytes, %v; want an error that contains %q", len(got), err, reason)
	}
}

func TestFile_OpensOnlyWithSameKeyAndBinding(t *testing.T) {
	f, path := written(t)
	refused(t, open(t, path, key(2)), binding, "another key")
	refused(t, open(t, path, append(key(1), 0)), binding, "another key")
	for _, other := range []string{"", "node-2, rules 7", "node-1, rules 7 ", "node-1, rules "} {
		refused(t, f, []byte(other), "under other settings")
	}
}

func TestFile_RevealsNothingAndDiffersEachTime(t *testing.T) {
	f, path := written(t)
	var all [][]byte
	for range 2 {
		if err := f.Write(secret, binding); err != nil {
			t.Fatal(err)
		}
		sealed, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range secret[:len(secret)-4] {
			if bytes.Contains(sealed, secret[i:i+5]) {
				t.Errorf("the file contains a part of the secret")
			}
		}
		if bytes.Contains(sealed, key(1)) || bytes.Contains(sealed, binding) {
			t.Error("the file contains the key or the binding")
		}
		all = append(all, sealed[1+timeSize:])
	}
	for i := range 8 { // the salt, and as many bytes after it
		part := func(sealed []byte) []byte { return sealed[i*8 : i*8+8] }
		if bytes.Equal(part(all[0]), part(all[1])) {
			t.Errorf("bytes %d and following are the same in two files", i*8)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("%v in the folder, %v", entries, err)
	}
}

func TestFile_RefusesDamage(t *testing.T) {
	f, path := written(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	put := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range whole {
		for bit := range 8 {
			damaged := bytes.Clone(whole)
			damaged[i] ^= 1 << bit
			put(damaged)
			refused(t, f, binding, path)
		}
		put(whole[:i])
		refused(t, f, binding, path)
	}
	put(append(bytes.Clone(whole), 0))
	refused(t, f, binding, "damaged")
	put(whole)
	if _, err := f.Read(binding); err != nil {
		t.Errorf("the undamaged file is refused: %v", err)
	}
}

func TestFile_RefusesTooLargeAndIrregularFiles(t *testing.T) {
	f, path := written(t)
	if err := f.Write(make([]byte, MaxSize+1), binding); err == nil {
		t.Error("content over the limit was written")
	}
	if err := f.Write(make([]byte, MaxSize), binding); err != nil {
		t.Error(err)
	}
	if got, err := f.Read(binding); err != nil || len(got) != MaxSize {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := os.Truncate(path, MaxSize+overhead+1); err != nil {
		t.Fatal(err)
	}
	refused(t, f, binding, "too large")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(binding); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	refused(t, f, binding, "not a regular file")
}

func TestFile_RefusesOldContentAndClockSetBack(t *testing.T) {
	for _, test := range []struct {
		later  time.Duration
		reason string // empty: not refused
	}{
		{0, ""}, {maxAge, ""}, {-slack, ""},
		{maxAge + time.Nanosecond, "too old: 1h0m0s"}, {-slack - time.Second, "set back by 3s"}, {-48 * time.Hour, "set back by 48h"},
	} {
		t.Run(fmt.Sprint(test.later), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, _ := written(t)
				f.now = func() time.Time { return time.Now().Add(test.later) }
				if test.reason != "" {
					refused(t, f, binding, test.reason)
				} else if _, err := f.Read(binding); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestFile_IsNeverWrittenToDisk(t *testing.T) {
	disk := t.TempDir()
	if inMemory(disk) == nil {
		t.Skip(disk + " is on a tmpfs")
	}
	path := filepath.Join(disk, "file")
	if _, err := New(path, key(1), maxAge, time.Now); err == nil || !strings.Contains(err.Error(), disk+" is not on a tmpfs") {
		t.Error(err)
	}
	f := open(t, filepath.Join(memory(t), "file"), key(1))
	f.path = path // another file system is mounted
	if err := f.Write(secret, binding); err == nil {
		t.Error("written to a disk")
	}
	if entries, err := os.ReadDir(disk); err != nil || len(entries) != 0 {
		t.Errorf("%v on the disk, %v", entries, err)
	}
}

func TestFile_RefusesShortKey(t *testing.T) {
	if _, err := New(filepath.Join(memory(t), "file"), key(1)[1:], maxAge, time.Now); !errors.Is(err, ErrShortKey) {
		t.Error(err)
	}
}

func TestFile_ReplacesAndRemovesUnfinishedFile(t *testing.T) {
	f, path := written(t)
	elsewhere := filepath.Join(filepath.Dir(path), "elsewhere")
	if err := os.Symlink(elsewhere, unfinished(path)); err != nil {
		t.Fatal(err)
	}
	if err := f.Write(secret, binding); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(unfinished(path), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is no file
		if err := Remove(path); err != nil {
			t.Error(err)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
		t.Errorf("%v is left, %v", entries, err)
	}
}
