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

// Cgroup is the folder of a cgroup in the unified hierarchy.
type Cgroup string

// NewCgroup makes a cgroup of the test's own in the machine's hierarchy. The test
// is skipped where it cannot.
func NewCgroup(t testing.TB) Cgroup {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if err := unix.Statfs(root, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		path, err := os.MkdirTemp(root, "gme-test-")
		if err != nil {
			t.Skipf("a cgroup cannot be made: %v: run the test as root", err)
		}
		c := Cgroup(path)
		t.Cleanup(func() { c.remove(t) })
		return c
	}
	t.Skip("this machine has no unified cgroup hierarchy (cgroup2)")
	return ""
}

// Below makes a cgroup and those between.
func (c Cgroup) Below(t testing.TB, path string) Cgroup {
	t.Helper()
	below := filepath.Join(string(c), path)
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	return Cgroup(below)
}

// remove takes a cgroup away with all below it, once their processes have ended.
func (c Cgroup) remove(t testing.TB) {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := removeAll(string(c))
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Errorf("a cgroup is left behind: %v", err)
			return
		}
	}
}

func removeAll(path string) error {
	below, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range below {
		if entry.IsDir() {
			errs = append(errs, removeAll(filepath.Join(path, entry.Name())))
		}
	}
	return errors.Join(append(errs, os.Remove(path))...)
}

// Pod makes a container's cgroup of a pod, named as by the cgroupfs driver.
func (c Cgroup) Pod(t testing.TB, class, uid string) Cgroup {
	t.Helper()
	return c.Below(t, filepath.Join("kubepods", class, "pod"+uid, strings.Repeat("c0ffee00", 8)))
}
