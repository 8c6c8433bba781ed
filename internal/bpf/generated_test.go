package bpf

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// glob returns the names of the files of a folder that match any of the patterns.
func glob(t *testing.T, folder string, patterns ...string) []string {
	t.Helper()
	var names []string
	for _, pattern := range patterns {
		matches, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range matches {
			names = append(names, filepath.Base(match))
		}
	}
	return names
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// An edited source with an old object fails on every machine, with or without clang.
func TestChecksums_MatchFiles(t *testing.T) {
	var sums strings.Builder
	for _, name := range glob(t, ".", "generate.go", "*.c", "*.h", "*_bpfel.go", "*_bpfel.o") {
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(read(t, name)), name)
	}
	if got := string(read(t, "SHA256SUMS")); got != sums.String() {
		t.Errorf("a source or an object was changed without the other; run make bpf, and commit all of internal/bpf\nSHA256SUMS:\n%s\nfiles:\n%s", got, sums.String())
	}
}

// The objects are built again in another folder, by the lines of generate.go.
func TestObjects_MatchSources(t *testing.T) {
	for _, tool := range []string{"clang-14", "llvm-strip-14", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("NOT CHECKED that the eBPF objects are those of their C sources: %v; on Debian 12 run: apt-get install clang-14 llvm-14", err)
		}
	}
	module := t.TempDir()
	folder := filepath.Join(module, "internal", "bpf")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	copyFile := func(from, to string) {
		t.Helper()
		if err := os.WriteFile(to, read(t, from), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} { // they have the version of bpf2go
		copyFile(filepath.Join("..", "..", name), filepath.Join(module, name))
	}
	for _, name := range glob(t, ".", "generate.go", "*.c", "*.h") {
		copyFile(name, filepath.Join(folder, name))
	}
	generate := exec.CommandContext(t.Context(), "go", "generate", ".")
	generate.Dir = folder
	generate.Env = append(generate.Environ(), "GOWORK=off")
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("go generate: %v\n%s", err, out)
	}
	generated := []string{"*_bpfel.go", "*_bpfel.o", "SHA256SUMS"}
	names := glob(t, folder, generated...)
	if committed := glob(t, ".", generated...); !slices.Equal(committed, names) {
		t.Errorf("the files %v are committed, and %v are generated", committed, names)
	}
	for _, name := range names {
		if !bytes.Equal(read(t, name), read(t, filepath.Join(folder, name))) {
			t.Errorf("%s is not what clang-14 makes of the sources: run make bpf, and commit all of internal/bpf", name)
		}
	}
}
