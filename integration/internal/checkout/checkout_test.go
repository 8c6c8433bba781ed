package checkout

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRoot_IsFoundFromBelow(t *testing.T) {
	own, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	want := filepath.Dir(filepath.Dir(filepath.Dir(own)))
	t.Chdir(filepath.Join(want, "integration/kubernetes/apiserver")) // in a nested module of a nested module
	if root, err := Root(); err != nil || root != want {
		t.Errorf("root is %q, error %v, want %q", root, err, want)
	}
	t.Chdir(t.TempDir())
	if root, err := Root(); err == nil || !strings.Contains(err.Error(), "checkout") {
		t.Errorf("outside: root is %q, error %v; want an error that names the remedy", root, err)
	}
}
