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

// Folders that are no cgroups will do here: only their names are looked at, and
// whether there are processes.
func TestCgroupOfAllPodsIsFound(t *testing.T) {
	for name, of := range map[string]struct {
		folders, populated string
		want               string // empty for an error
	}{
		"cgroupfs driver":             {"kubepods/burstable system.slice", "", "kubepods"},
		"systemd driver":              {"kubepods.slice/kubepods-burstable.slice user.slice", "", "kubepods.slice"},
		"kind, cgroupfs driver":       {"kubelet/kubepods init", "", "kubelet/kubepods"},
		"kind, systemd driver":        {"kubelet.slice/kubelet-kubepods.slice", "", "kubelet.slice/kubelet-kubepods.slice"},
		"below a slice of one's own":  {"lab-n1-kubepods.slice", "", "lab-n1-kubepods.slice"},
		"a driver that was changed":   {"kubepods kubepods.slice", "kubepods.slice", "kubepods.slice"},
		"two that are in use":         {"kubepods kubepods.slice", "kubepods kubepods.slice", ""},
		"none":                        {"system.slice user.slice", "", ""},
		"one that a user has made up": {"user.slice/kubepods/burstable", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for folder := range strings.FieldsSeq(of.folders) {
				if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for folder := range strings.FieldsSeq(of.populated) {
				if err := os.WriteFile(filepath.Join(root, folder, "cgroup.events"), []byte("populated 1\nfrozen 0\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := findKubepods(root)
			switch {
			case of.want == "" && (err == nil || !strings.Contains(err.Error(), "and not one")):
				t.Errorf("found %s, error %v", got, err)
			case of.want != "" && got != filepath.Join(root, of.want):
				t.Errorf("found %s (%v), want %s", got, err, of.want)
			}
		})
	}
}

func TestFolderThatIsNoCgroupIsNamed(t *testing.T) {
	if _, err := OpenCgroups(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is not in a unified hierarchy") {
		t.Errorf("error %v", err)
	}
}

func TestCgroupIsFoundByItsNumberUntilItIsRemoved(t *testing.T) {
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
		t.Errorf("after it was removed: error %v", err)
	}
	// Who connected just before it was is still known: no other gets its number.
	if uid, err := cgroups.PodUID(folder.Ino); err != nil || uid != bill {
		t.Errorf("after it was removed: pod %q (%v)", uid, err)
	}
	cgroups.pods.Purge()
	if uid, err := cgroups.PodUID(folder.Ino); !errors.Is(err, ErrCgroupGone) {
		t.Errorf("after it was removed, unknown: pod %q, error %v", uid, err)
	}
}

func BenchmarkPodOfACgroup(b *testing.B) {
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
