package clients

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// python has Google's Python libraries, installed by pip from a closure with hashes.
func python() client {
	offers := []string{"project", "email", "access", "id"}
	// google-auth uses the address that it has learned, if a token is refreshed twice.
	sometimes := []string{"instance/service-accounts/EMAIL/?recursive=true"}
	return client{name: "Python", sometimes: sometimes, does: doing(offers...), open: converse(offers...), install: func(t testing.TB) installed {
		const lockFile = "python/requirements.txt"
		version := toolchain(t, "python3", "--version")
		folder := install(t, "python", version, []string{lockFile}, func(ctx context.Context, folder string) error {
			if err := command(ctx, "", nil, "python3", "-m", "venv", folder); err != nil {
				return err
			}
			return command(ctx, "", nil, filepath.Join(folder, "bin", "python"), "-m", "pip", "install",
				"--disable-pip-version-check", "--no-input", "--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", lockFile)
		})
		return installed{
			version: locked(t, lockFile, `(?m)^(google-auth|google-cloud-storage)==(\S+)`),
			program: []string{filepath.Join(folder, "bin", "python"), absolute(t, "python/main.py")},
		}
	}}
}

// locked are the versions that a lock file has, found by a pattern of two groups.
func locked(t testing.TB, file, pattern string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	versions := ""
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(content), -1) {
		if versions != "" {
			versions += ", "
		}
		versions += match[1] + " " + match[2]
	}
	if versions == "" {
		t.Fatalf("%s: nothing matches %s", file, pattern)
	}
	return versions
}

func absolute(t testing.TB, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
