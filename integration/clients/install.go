package clients

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

	"gke-metadata-emulator/integration/buildcache"
)

// installTimeout is far more than a first installation takes on two cores.
const installTimeout = 15 * time.Minute

// onPath is the path of a program of this machine. It skips the test if the program is
// not installed.
func onPath(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed on this machine: %v", program, err)
	}
	return path
}

// toolchain is the version that a program of this machine reports. It skips the test if
// the program is not installed.
func toolchain(t testing.TB, program string, args ...string) string {
	t.Helper()
	output, err := exec.Command(onPath(t, program), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, output)
	}
	return strings.TrimSpace(string(output))
}

// install returns a folder of the user's cache with the files that fill put there. The
// folder is filled once for each content of files, which are relative to this package's
// folder, and each version of the toolchain. Several processes can call it at once.
func install(t testing.TB, name, toolchain string, files []string, fill func(ctx context.Context, folder string) error) string {
	t.Helper()
	key, err := buildcache.Key(name, toolchain, files)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := buildcache.Dir("clients")
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(cache, key)
	if err := installInto(t, folder, name, fill); err != nil {
		t.Fatalf("install %s: %v", name, err)
	}
	return folder
}

func installInto(t testing.TB, folder, name string, fill func(ctx context.Context, folder string) error) error {
	ctx, cancel := context.WithTimeoutCause(t.Context(), installTimeout, fmt.Errorf("not within %s", installTimeout))
	defer cancel()
	waiting := func() { t.Logf("%s: another process installs it", name) }
	return buildcache.Folder(ctx, folder, waiting, func(ctx context.Context, unfinished string) error {
		start := time.Now()
		if err := fill(ctx, unfinished); err != nil {
			return err
		}
		t.Logf("%s: installed in %s", name, time.Since(start).Round(100*time.Millisecond))
		return nil
	})
}

// command runs a program of an installation. An error has the output.
func command(ctx context.Context, dir string, env []string, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.WaitDelay = 10 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, output.Bytes())
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
