package kubernetes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tiny is a builder and a program that takes a second to build.
func tiny(t *testing.T, source string) (builder, program, *strings.Builder) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":  "module tiny\n\ngo 1.26\n",
		"main.go": source,
	} {
		path := filepath.Join(dir, "tiny", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log strings.Builder
	return builder{source: dir, cache: filepath.Join(dir, "cache"), log: &log},
		program{name: "tiny", folder: "tiny", module: "tiny", pkg: "tiny", takes: "a second", ldflags: kubernetesVersion},
		&log
}

func TestBinary_IsBuiltOnce(t *testing.T) {
	b, p, log := tiny(t, "package main\n\nfunc main() { println(\"tiny\") }\n")
	path, err := b.binary(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(path).CombinedOutput(); err != nil || string(out) != "tiny\n" {
		t.Errorf("it prints %q, error %v", out, err)
	}
	if !strings.Contains(log.String(), "building it from source, once (a second") {
		t.Errorf("log is %q", log)
	}
	log.Reset()
	second, err := b.binary(t.Context(), p)
	if err != nil || second != path || log.Len() > 0 {
		t.Errorf("second time: %s, error %v, log %q; want %s and no log", second, err, log, path)
	}
}

func TestBinary_FailedBuildShowsTheCompilersMessage(t *testing.T) {
	b, p, _ := tiny(t, "package main\n\nfunc main() { nonsense }\n")
	path, err := b.binary(t.Context(), p)
	if err == nil || !strings.Contains(err.Error(), "undefined: nonsense") {
		t.Errorf("%s, error %v, want the compiler's message", path, err)
	}
}
