package attest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each file under testdata is /proc/PID/cgroup of a process, by runtime, driver and
// version of the hierarchy; see cgroups(7). All lines of a file must give the same result.
func TestPodUID_SupportsRuntimesAndDrivers(t *testing.T) {
	const (
		uid  = "1f0d5b6c-2f0e-4d0a-9a53-3f1f4a3f7c11"
		hash = "0a1b2c3d4e5f60718293a4b5c6d7e8f9" // of the file of a static pod
		none = ""

		cgroupfs = "/kubepods"
		systemd  = "/kubepods.slice"
	)
	seen := map[string]bool{}
	for _, test := range []struct{ file, kubepods, want string }{
		{"containerd-systemd-v2", systemd, uid},
		{"containerd-cgroupfs-v2", cgroupfs, uid},
		{"containerd-guaranteed-systemd-v2", systemd, uid},
		{"containerd-guaranteed-cgroupfs-v2", cgroupfs, uid},
		{"containerd-cgroupfs-hybrid", cgroupfs, uid},
		{"crio-systemd-v2", systemd, uid},
		{"crio-cgroupfs-v2", cgroupfs, uid},
		{"crio-container-subgroup", systemd, uid},
		{"docker-systemd-v2", systemd, uid},
		{"docker-systemd-v1", systemd, uid},
		{"docker-cgroupfs-v1", cgroupfs, uid},
		{"static-systemd-v2", systemd, hash},
		{"static-cgroupfs-v2", cgroupfs, hash},
		{"kind-systemd", "/kubelet.slice/kubelet-kubepods.slice", uid},
		{"kind-cgroupfs", "/kubelet/kubepods", uid},
		{"kind-seen-from-the-machine", systemd, none}, // no pod of the machine's kubelet
		{"kind-in-a-pod", cgroupfs, uid},
		{"custom-root-systemd", "/lab.slice/lab-n1.slice/lab-n1-kubepods.slice", uid},
		{"custom-root-cgroupfs", "/lab/n1/kubepods", uid},
		{"custom-root-cgroupfs", cgroupfs, none}, // a pod of another kubelet
		{"kubectl-exec", cgroupfs, uid},
		{"pod-itself", cgroupfs, uid},
		{"container-names-a-pod", cgroupfs, uid},
		{"two-pods", cgroupfs, "conflict"},
		{"no-pod-sshd", cgroupfs, none},
		{"no-pod-root", cgroupfs, none},
		{"no-pod-kubelet", systemd, none},
		{"no-pod-class", cgroupfs, none},
		{"no-pod-kubepods", cgroupfs, none},
		{"no-pod-user", cgroupfs, none},
		{"no-pod-sibling", cgroupfs, none},
		{"no-pod-name", cgroupfs, none},
		{"no-pod-long", cgroupfs, none},
	} {
		seen[test.file] = true
		t.Run(test.file, func(t *testing.T) {
			for _, path := range cgroupPaths(t, test.file) {
				got, err := podUID(test.kubepods, path)
				var noPod *NotAPodError
				var conflict *ConflictError
				switch {
				case test.want == none && !errors.As(err, &noPod), test.want == "conflict" && !errors.As(err, &conflict):
					t.Errorf("%s: pod %q, error %v", path, got, err)
				case (test.want == uid || test.want == hash) && (err != nil || got != test.want):
					t.Errorf("%s: pod %q (%v), want %q", path, got, err, test.want)
				case err != nil && !strings.Contains(err.Error(), path):
					t.Errorf("%v does not name %s", err, path)
				}
			}
		})
	}
	files, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !seen[file.Name()] {
			t.Errorf("testdata/%s is not in the table", file.Name())
		}
	}
}

func cgroupPaths(t *testing.T, file string) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for line := range strings.Lines(string(content)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			t.Fatalf("testdata/%s: %q", file, line)
		}
		paths = append(paths, fields[2])
	}
	return paths
}
