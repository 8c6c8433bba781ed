package kubernetes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gke-metadata-emulator/integration/built"
)

const (
	folderPrefix = "gke-metadata-emulator-kubernetes-"
	folderLock   = "lock"
)

// folder is where a cluster keeps its files. It is locked while the cluster
// lives, so that the next one can remove what a crashed test left.
type folder struct {
	path string
	lock *os.File
}

func newFolder() (*folder, error) {
	removeAbandoned()
	path, err := os.MkdirTemp("", folderPrefix)
	if err != nil {
		return nil, fmt.Errorf("folder for the cluster's files: %w; make it writable, or set TMPDIR", err)
	}
	// Locked before it has the name that removeAbandoned looks for.
	early := filepath.Join(path, "new")
	lock, err := built.TryLock(early)
	if err == nil {
		err = os.Rename(early, filepath.Join(path, folderLock))
	}
	f := &folder{path: path, lock: lock}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("folder for the cluster's files: %w", err), f.remove())
	}
	return f, nil
}

func (f *folder) remove() error {
	err := os.RemoveAll(f.path)
	if f.lock != nil {
		err = errors.Join(err, f.lock.Close())
	}
	return err
}

// removeAbandoned does what it can: what it cannot remove may be another
// user's, and is in nobody's way.
func removeAbandoned() {
	locks, _ := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"*", folderLock))
	for _, path := range locks {
		if lock, err := built.TryLock(path); err == nil && lock != nil {
			_ = (&folder{path: filepath.Dir(path), lock: lock}).remove()
		}
	}
}
