package clients

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInstall_RunsOnce(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	times := 0
	tool := func(toolchain string) string {
		return install(t, "tool", toolchain, []string{"doc.go"}, func(_ context.Context, folder string) error {
			times++
			return os.WriteFile(filepath.Join(folder, "made"), nil, 0o644)
		})
	}
	first := tool("1")
	if second := tool("1"); second != first || times != 1 || !exists(filepath.Join(first, "made")) {
		t.Errorf("installed %d times, in %s and %s", times, first, second)
	}
	if other := tool("2"); other == first || times != 2 {
		t.Errorf("another toolchain: %d times, in %s", times, other)
	}
}

// A failed installation leaves nothing that looks complete.
func TestInstall_FailureLeavesNothing(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "tool")
	failure := errors.New("no network")
	err := installInto(t, folder, "tool", func(_ context.Context, unfinished string) error {
		return errors.Join(failure, os.WriteFile(filepath.Join(unfinished, "half"), nil, 0o644))
	})
	if !errors.Is(err, failure) || exists(folder) || exists(folder+".unfinished") {
		t.Errorf("%v, there: %v", err, exists(folder))
	}
	if err := os.MkdirAll(filepath.Join(folder+".unfinished", "of a process that was ended"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := installInto(t, folder, "tool", func(context.Context, string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestInstall_ClosureIsComparedByJar(t *testing.T) {
	folder, closure := t.TempDir(), filepath.Join(t.TempDir(), "closure")
	set := func(path, content string) {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	set(filepath.Join(folder, "a.jar"), "")
	for _, test := range []struct{ list, problem string }{
		{empty + "  a.jar\n", ""},
		{empty + "  a.jar\n" + empty + "  b.jar\n", "did not come to: map[b.jar:"},
		{empty + "  b.jar\n", "a.jar has the checksum"},
		{strings.Repeat("0", 64) + "  a.jar\n", "a.jar has the checksum"},
	} {
		set(closure, test.list)
		err := sameClosure(folder, closure)
		if (err == nil) != (test.problem == "") || err != nil && !strings.Contains(err.Error(), test.problem) {
			t.Errorf("%q: %v", test.list, err)
		}
	}
}

// Where packages come from is the machine's to say.
func TestLockFiles_NameNoRegistry(t *testing.T) {
	for file, part := range map[string]string{
		"node/package-lock.json": `"resolved"`, "python/requirements.txt": "://", closureFile: "://", "java/pom.xml": "<repositor",
	} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), part) {
			t.Errorf("%s contains %s", file, part)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
