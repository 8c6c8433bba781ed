package podtest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Cgroup is the path of a cgroup in the unified hierarchy.
type Cgroup string

// NewCgroup creates a cgroup in the machine's hierarchy until the test ends. If it
// cannot be created, the test is skipped.
func NewCgroup(t testing.TB) Cgroup {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if err := unix.Statfs(root, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		path, err := os.MkdirTemp(root, "gme-test-")
		if err != nil {
			t.Skipf("a cgroup cannot be created: %v: run the test as root", err)
		}
		c := Cgroup(path)
		t.Cleanup(func() { c.remove(t) })
		return c
	}
	t.Skip("this machine has no unified cgroup hierarchy (cgroup2)")
	return ""
}

// NewChild creates a cgroup at a relative path, with its parents.
func (c Cgroup) NewChild(t testing.TB, path string) Cgroup {
	t.Helper()
	below := filepath.Join(string(c), path)
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	return Cgroup(below)
}

// remove removes a cgroup and all below it. The kernel refuses while it contains
// processes, which can be a moment longer than they run, hence the retries.
func (c Cgroup) remove(t testing.TB) {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := removeAll(string(c))
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Errorf("a cgroup cannot be removed: %v", err)
			return
		}
	}
}

func removeAll(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		if entry.IsDir() {
			errs = append(errs, removeAll(filepath.Join(path, entry.Name())))
		}
	}
	return errors.Join(append(errs, os.Remove(path))...)
}

// Pod creates the cgroup of a pod's container, with the names of the cgroupfs driver.
func (c Cgroup) Pod(t testing.TB, class, uid string) Cgroup {
	t.Helper()
	return c.NewChild(t, filepath.Join("kubepods", class, "pod"+uid, strings.Repeat("c0ffee00", 8)))
}
