package kubernetes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func TestClusterFromUpToClose(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a Kubernetes API server; not with -short")
	}
	start := time.Now()
	if _, err := Binaries(t.Context(), os.Stderr); err != nil {
		t.Fatal(err)
	}
	t.Logf("Binaries: %s", time.Since(start).Round(time.Millisecond))

	start = time.Now()
	c, err := Up(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Up to ready: %s", time.Since(start).Round(time.Millisecond))
	pids := []int{c.etcd.os.Pid, c.apiServer.os.Pid}
	for _, p := range []*process{c.etcd, c.apiServer} {
		t.Logf("memory of %s: %s", p.name, memory(t, p.os.Pid))
	}

	version, err := c.Client.Discovery().ServerVersion()
	if err != nil || version.GitVersion != "v1.36.3" {
		t.Errorf("server version %v, error %v, want v1.36.3", version, err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := clientset.NewForConfigOrDie(config).CoreV1().Secrets("kube-system").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("with the administrator's kubeconfig: %v", err)
	}

	folder := c.dir.path
	start = time.Now()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("Close: %s", time.Since(start).Round(time.Millisecond))
	for _, pid := range pids {
		if running(t, pid) {
			t.Errorf("process %d is still there after Close", pid)
		}
	}
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there after Close: %v", folder, err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
	if err := c.StartAPIServer(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("StartAPIServer after Close: %v", err)
	}
}

func TestUpSaysWhyTheAPIServerDoesNotStart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a Kubernetes API server; not with -short")
	}
	t.Setenv("TMPDIR", shortTempDir(t))
	_, err := Up(t.Context(), Config{APIServerFlags: []string{"--authorization-mode=Chaos"}})
	if err == nil || !strings.Contains(err.Error(), "Chaos") || strings.Count(err.Error(), "last lines") != 1 {
		t.Errorf("error is %v, want the end of the API server's log, once", err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestCloseTellsOfACrash(t *testing.T) {
	p, err := startProcess("kube-apiserver", filepath.Join(t.TempDir(), "log"), "/bin/sh", "-c", "echo trouble; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	<-p.done
	err = (&Cluster{apiServer: p}).Close()
	if err == nil || !strings.Contains(err.Error(), "kube-apiserver: ended on its own: exit status 3") || !strings.Contains(err.Error(), "trouble") {
		t.Errorf("error is %v, want how the API server ended, and its log", err)
	}
}

func TestAbandonedFolderIsRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	living, err := newFolder()
	if err != nil {
		t.Fatal(err)
	}
	dead, err := newFolder()
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.lock.Close(); err != nil { // as when its process ends
		t.Fatal(err)
	}
	removeAbandoned()
	if _, err := os.Stat(living.path); err != nil {
		t.Errorf("folder in use: %v", err)
	}
	if _, err := os.Stat(dead.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("abandoned folder: %v, want that it does not exist", err)
	}
	if err := living.remove(); err != nil {
		t.Error(err)
	}
}

// shortTempDir is a temporary folder whose path leaves room for sockets.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "k")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// running says whether the process exists, other than as one that waits for
// its parent to notice its end.
func running(t testing.TB, pid int) bool {
	t.Helper()
	stat, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "stat"))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

func memory(t testing.TB, pid int) string {
	t.Helper()
	status, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	size, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(size)
}
