package scratch

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

func TestAbandoned_LeavesFoldersInUseAlone(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	const prefix = "scratch-"
	used, err := New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.Release(); err != nil { // as when its process ends
		t.Fatal(err)
	}
	for _, folder := range Abandoned(prefix) {
		if err := folder.Remove(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(used.Path()); err != nil {
		t.Errorf("folder in use: %v", err)
	}
	if _, err := os.Stat(dead.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("abandoned folder: %v, want that it does not exist", err)
	}
	if err := used.Remove(); err != nil {
		t.Error(err)
	}
}
