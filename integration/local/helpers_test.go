package local

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// commandTime is far longer than any of these commands takes.
const commandTime = 2 * time.Minute

// run runs a command in the namespace, and returns its standard output. An error has its
// standard error.
func (n *namespace) run(t *testing.T, cmd *exec.Cmd) (string, error) {
	t.Helper()
	var output, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &output, &failed, 5*time.Second
	n.start(t, cmd)
	if err := cmd.Wait(); err != nil {
		return output.String(), fmt.Errorf("%w\n%s", err, strings.TrimSpace(failed.String()))
	}
	return output.String(), nil
}

// serve starts a command that serves until the test ends. If the test fails, its log has the
// command's output.
func (n *namespace) serve(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	output, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = output
	n.start(t, cmd)
	t.Cleanup(func() {
		_ = cmd.Cancel()
		_ = cmd.Wait()
		if content, err := os.ReadFile(output.Name()); t.Failed() {
			t.Logf("output of %s: %s%v", cmd.Args, content, err)
		}
		_ = output.Close()
	})
}

func command(t *testing.T, program string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, program, args...)
}

// outside runs a command in the machine's own network.
func outside(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	cmd := command(t, program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, output)
	}
	return strings.TrimSpace(string(output))
}

// program builds the product's program as its image has it, into a folder for PATH.
func program(t *testing.T) (folder string) {
	t.Helper()
	folder = t.TempDir()
	outside(t, "../..", "go", "build", "-o", folder, "./cmd/gke-metadata-emulator")
	return folder
}

func write(t *testing.T, content string, path ...string) string {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
