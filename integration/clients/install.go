package clients

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/integration/built"
)

// installTime is far more than a first installation takes on two cores.
const installTime = 15 * time.Minute

// onPath is the path of a program of this machine. The test is skipped where there
// is none.
func onPath(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed on this machine: %v", program, err)
	}
	return path
}

// toolchain is the version that a program of this machine tells. The test is
// skipped where there is none.
func toolchain(t testing.TB, program string, args ...string) string {
	t.Helper()
	output, err := exec.Command(onPath(t, program), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, output)
	}
	return strings.TrimSpace(string(output))
}

// install returns a folder of the user's cache with what make put there. It is made
// once for each content of the files, which are relative to this package's folder,
// and each version of the toolchain. Any number of processes may ask at once.
func install(t testing.TB, name, toolchain string, files []string, make func(ctx context.Context, folder string) error) string {
	t.Helper()
	hash := sha256.New()
	fmt.Fprintln(hash, toolchain)
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(hash, "%s %d\n%s", file, len(content), content)
	}
	caches, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("no place to keep the clients: %v; set HOME or XDG_CACHE_HOME", err)
	}
	folder := filepath.Join(caches, "gke-metadata-emulator", "clients", fmt.Sprintf("%s-%x", name, hash.Sum(nil)[:8]))
	if err := installInto(t, folder, name, make); err != nil {
		t.Fatalf("install %s: %v", name, err)
	}
	return folder
}

func installInto(t testing.TB, folder, name string, make func(ctx context.Context, folder string) error) error {
	if there(folder) {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), installTime, fmt.Errorf("not within %s", installTime))
	defer cancel()
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		return err
	}
	unlock, err := built.Lock(ctx, folder+".lock", func() { t.Logf("%s: another process installs it", name) })
	if err != nil {
		return err
	}
	defer unlock()
	if there(folder) { // another process has just made it
		return nil
	}
	start, unfinished := time.Now(), folder+".unfinished"
	if err := os.RemoveAll(unfinished); err != nil { // of a process that was ended
		return err
	}
	if err := os.Mkdir(unfinished, 0o755); err != nil {
		return err
	}
	if err := make(ctx, unfinished); err != nil {
		return errors.Join(err, os.RemoveAll(unfinished))
	}
	t.Logf("%s: installed in %s", name, time.Since(start).Round(100*time.Millisecond))
	return os.Rename(unfinished, folder)
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// command runs a program of an installation. An error has what it said.
func command(ctx context.Context, dir string, env []string, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.WaitDelay = 10 * time.Second
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, said.Bytes())
	}
	return nil
}

// copyFiles copies files of this package's folder.
func copyFiles(to string, files ...string) error {
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(file)), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
