package podtest

import (
	"testing"

	"golang.org/x/sys/unix"
)

// NewBPFFS mounts a bpffs until the test ends, and returns its path. If it cannot be
// mounted, the test is skipped.
func NewBPFFS(t testing.TB) string {
	t.Helper()
	folder := t.TempDir()
	if err := unix.Mount("bpf", folder, "bpf", 0, ""); err != nil {
		t.Skipf("a bpffs cannot be mounted: %v: run the test as root", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	})
	return folder
}
