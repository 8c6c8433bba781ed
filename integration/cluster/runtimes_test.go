package cluster_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/integration/buildcache"
)

// installWithin is far more than a first installation takes on two cores.
const installWithin = 10 * time.Minute

// installed returns a folder of the user's cache with the files that fill put there,
// once for each content of files and each version of the toolchain.
func installed(t *testing.T, name, toolchain string, files []string, fill func(ctx context.Context, folder string) error) string {
	t.Helper()
	key, err := buildcache.Key(name, toolchain, files)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := buildcache.Dir("workloads")
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(cache, key)
	ctx, cancel := within(t.Context(), installWithin)
	defer cancel()
	if err := buildcache.Folder(ctx, folder, func() { t.Logf("%s: another process installs it", folder) }, fill); err != nil {
		t.Fatalf("install %s: %v", name, err)
	}
	return folder
}

// tell runs a program of this machine and returns its output. It skips the test if there is
// no such program.
func tell(t *testing.T, program string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("not installed on this machine: %v", err)
	}
	output, err := command(t.Context(), "", program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

func command(ctx context.Context, folder, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.WaitDelay = folder, 10*time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, output.Bytes())
	}
	return strings.TrimSpace(output.String()), nil
}

// pythonLibraries are Google's, of the versions and checksums that the tests of
// integration/clients have.
func pythonLibraries(t *testing.T) string {
	t.Helper()
	const lock = "../clients/python/requirements.txt"
	return installed(t, "python", tell(t, "python3", "--version"), []string{lock}, func(ctx context.Context, folder string) error {
		_, err := command(ctx, "", "python3", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps",
			"--only-binary=:all:", "--require-hashes", "--requirement", lock, "--target", folder)
		return err
	})
}

// nodeLibraries are those of Node, with the versions of integration/clients, too.
func nodeLibraries(t *testing.T) string {
	t.Helper()
	locks := []string{"../clients/node/package.json", "../clients/node/package-lock.json"}
	return installed(t, "node", tell(t, "node", "--version")+tell(t, "npm", "--version"), locks, func(ctx context.Context, folder string) error {
		for _, file := range locks {
			content, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(filepath.Join(folder, filepath.Base(file)), content, 0o644)
			}
			if err != nil {
				return err
			}
		}
		_, err := command(ctx, folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		return err
	})
}

// javaClasses are those of workloads/Token.java.
func javaClasses(t *testing.T) string {
	t.Helper()
	const source = "workloads/Token.java"
	return installed(t, "java", tell(t, "javac", "-version"), []string{source}, func(ctx context.Context, folder string) error {
		_, err := command(ctx, "", "javac", "-d", folder, source)
		return err
	})
}

// javaHome is the folder of the JVM, and those that its files are links into.
func javaHome(t *testing.T) []string {
	t.Helper()
	output := tell(t, "java", "-XshowSettings:properties", "-version")
	_, after, _ := strings.Cut(output, "java.home = ")
	home, _, found := strings.Cut(after, "\n")
	if !found {
		t.Fatalf("java does not print its home: %s", output)
	}
	folders := []string{strings.TrimSpace(home)}
	seen := map[string]bool{}
	err := filepath.WalkDir(folders[0], func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type() != fs.ModeSymlink {
			return err
		}
		target, err := filepath.EvalSymlinks(path)
		if err != nil {
			return nil // a link into nothing is not needed
		}
		if info, err := os.Stat(target); err == nil && !info.IsDir() {
			target = filepath.Dir(target)
		}
		if !seen[target] && !strings.HasPrefix(target, folders[0]) && !strings.HasPrefix(target, "/usr/") {
			seen[target] = true
			folders = append(folders, target)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return folders
}
