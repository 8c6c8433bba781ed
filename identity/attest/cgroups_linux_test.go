package attest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gke-metadata-emulator/internal/podtest"
)

// The folders are not cgroups. Only their names and cgroup.events are read.
func TestFindKubepods_SupportsDriversAndLocations(t *testing.T) {
	for name, test := range map[string]struct {
		folders, populated string
		want               string // empty for an error
	}{
		"cgroupfs driver":       {"kubepods/burstable system.slice", "", "kubepods"},
		"systemd driver":        {"kubepods.slice/kubepods-burstable.slice user.slice", "", "kubepods.slice"},
		"kind, cgroupfs driver": {"kubelet/kubepods init", "", "kubelet/kubepods"},
		"kind, systemd driver":  {"kubelet.slice/kubelet-kubepods.slice", "", "kubelet.slice/kubelet-kubepods.slice"},
		"below another slice":   {"lab-n1-kubepods.slice", "", "lab-n1-kubepods.slice"},
		"changed driver":        {"kubepods kubepods.slice", "kubepods.slice", "kubepods.slice"},
		"two in use":            {"kubepods kubepods.slice", "kubepods kubepods.slice", ""},
		"none":                  {"system.slice user.slice", "", ""},
		"forged by a user":      {"user.slice/kubepods/burstable", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for folder := range strings.FieldsSeq(test.folders) {
				if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for folder := range strings.FieldsSeq(test.populated) {
				if err := os.WriteFile(filepath.Join(root, folder, "cgroup.events"), []byte("populated 1\nfrozen 0\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := findKubepods(root)
			switch {
			case test.want == "" && (err == nil || !strings.Contains(err.Error(), "and one is needed")):
				t.Errorf("found %s, error %v", got, err)
			case test.want != "" && got != filepath.Join(root, test.want):
				t.Errorf("found %s (%v), want %s", got, err, test.want)
			}
		})
	}
}

func TestOpenCgroups_RejectsFolderOutsideHierarchy(t *testing.T) {
	if _, err := OpenCgroups(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is not in a unified hierarchy") {
		t.Errorf("error %v", err)
	}
}

func TestCgroups_FindCgroupByIDUntilRemoved(t *testing.T) {
	root := podtest.NewCgroup(t)
	container := root.Pod(t, "besteffort", bill)
	cgroups, err := OpenCgroups(string(root))
	if err != nil {
		t.Fatal(err)
	}
	defer cgroups.Close()
	var folder unix.Stat_t
	if err := unix.Stat(string(container), &folder); err != nil {
		t.Fatal(err)
	}
	if uid, err := cgroups.PodUID(folder.Ino); err != nil || uid != bill {
		t.Errorf("pod %q (%v)", uid, err)
	}
	remove(t, string(container))
	if _, err := cgroups.path(folder.Ino); !errors.Is(err, ErrCgroupGone) {
		t.Errorf("after removal: error %v", err)
	}
	// A caller that connected just before the removal still has its pod: the kernel never
	// reuses the ID.
	if uid, err := cgroups.PodUID(folder.Ino); err != nil || uid != bill {
		t.Errorf("after removal: pod %q (%v)", uid, err)
	}
	cgroups.pods.Purge()
	if uid, err := cgroups.PodUID(folder.Ino); !errors.Is(err, ErrCgroupGone) {
		t.Errorf("after removal, not cached: pod %q, error %v", uid, err)
	}
}

func BenchmarkCgroups_PodUID(b *testing.B) {
	root := podtest.NewCgroup(b)
	container := root.Pod(b, "besteffort", bill)
	cgroups, err := OpenCgroups(string(root))
	if err != nil {
		b.Fatal(err)
	}
	defer cgroups.Close()
	var folder unix.Stat_t
	if err := unix.Stat(string(container), &folder); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if uid, err := cgroups.PodUID(folder.Ino); err != nil || uid != bill {
			b.Fatal(uid, err)
		}
	}
}
