package bench

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"gke-metadata-emulator/integration/internal/checkout"
)

// buildProfiled builds the product with testdata/profile.go added by go build -overlay.
// The product itself has no means of profiling.
func buildProfiled(t *testing.T) string {
	t.Helper()
	root, err := checkout.Root()
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{
		filepath.Join(root, "cmd/gke-metadata-emulator/profile.go"): filepath.Join(root, "integration/bench/testdata/profile.go"),
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOFLAGS", "-overlay="+file)
	return buildProgram(t, ".", "./cmd/gke-metadata-emulator")
}

// startProfile starts the CPU profile of a program from buildProfiled; the returned function
// ends it. BENCH_PROFILE in the program's environment names the file.
func (p *program) startProfile(t *testing.T, file string) func() {
	t.Helper()
	signal := func(s syscall.Signal) {
		if err := syscall.Kill(p.pid, s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGUSR1)
	return func() {
		signal(syscall.SIGUSR2)
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if os.Remove(file+".done") == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("no profile in %s", file)
			}
		}
	}
}
