package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"gke-metadata-emulator/integration/cluster"
)

// crashing makes this test program one that starts a cluster and is then killed.
const crashing = "GME_TEST_CRASH"

func TestMain(m *testing.M) {
	if os.Getenv(crashing) != "" {
		if err := crash(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func crash() error {
	if _, err := cluster.Up(context.Background(), cluster.Config{Log: os.Stderr}); err != nil {
		return err
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	return self.Signal(syscall.SIGKILL)
}

func TestSweep_RemovesACrashedRun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster; not with -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, for namespaces and cgroups")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	ctx, cancel := within(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "-test.run=^$")
	cmd.Env = append(os.Environ(), crashing+"=1", "TMPDIR="+temp)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the program that was to be killed: %v", err)
	}
	folders, err := filepath.Glob(filepath.Join(temp, "gme-cluster-*"))
	if err != nil || len(folders) != 1 {
		t.Fatalf("folders of the crashed run: %q, %v", folders, err)
	}
	groups, err := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", filepath.Base(folders[0])))
	if err != nil || len(groups) == 0 {
		t.Fatalf("cgroups of the crashed run: %q, %v", groups, err)
	}

	t.Setenv("TMPDIR", temp)
	if err := cluster.Sweep(); err != nil {
		t.Fatal(err)
	}
	for _, path := range append(groups, folders...) {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
