package cluster_test

import (
	"os"
	"path/filepath"
	"testing"

	"gke-metadata-emulator/integration/cluster"
)

func TestLibraries_IncludeTheLoaderAndLibc(t *testing.T) {
	shell := "/bin/sh"
	files, err := cluster.WithLibraries(t.Context(), shell)
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{shell, "/lib*/*/libc.so*", "/lib*/ld-*"} {
		found := false
		for target, source := range files {
			matches, err := filepath.Match(pattern, target)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Lstat(source); err != nil || !info.Mode().IsRegular() {
				t.Errorf("%s is %s, which is no file: %v", target, source, err)
			}
			found = found || matches
		}
		if !found {
			t.Errorf("nothing like %s in %v", pattern, files)
		}
	}
}
