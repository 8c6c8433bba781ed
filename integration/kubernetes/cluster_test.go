package kubernetes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"gke-metadata-emulator/integration/internal/process"
)

func TestCluster_UpToClose(t *testing.T) {
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
	pids := []int{c.etcd.Pid(), c.apiServer.Pid()}
	for _, p := range []*process.Process{c.etcd, c.apiServer} {
		t.Logf("memory of %s: %s", p.Name(), memory(t, p.Pid()))
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

	folder := c.dir.Path()
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
		t.Errorf("second Close: %v", err)
	}
	if err := c.StartAPIServer(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("StartAPIServer after Close: %v", err)
	}
}

func TestCluster_UpShowsTheAPIServersLog(t *testing.T) {
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

func TestCluster_CloseReportsACrash(t *testing.T) {
	p, err := process.Start("kube-apiserver", filepath.Join(t.TempDir(), "log"), exec.Command("/bin/sh", "-c", "echo trouble; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	err = (&Cluster{apiServer: p}).Close()
	if err == nil || !strings.Contains(err.Error(), "kube-apiserver: ended on its own: exit status 3") || !strings.Contains(err.Error(), "trouble") {
		t.Errorf("error is %v, want how the API server ended, and its log", err)
	}
}

// shortTempDir is a temporary folder with a path that is short enough for sockets in it.
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

func running(t testing.TB, pid int) bool {
	t.Helper()
	runs, err := process.Runs(pid)
	if err != nil {
		t.Fatal(err)
	}
	return runs
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
