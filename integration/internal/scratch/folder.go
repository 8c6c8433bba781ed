package scratch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gke-metadata-emulator/integration/buildcache"
)

const lockName = "lock"

// Folder is a temporary folder. It is locked until [Folder.Remove] or the end of the
// process, so that [Abandoned] of another process leaves it alone.
type Folder struct {
	path string
	lock *os.File
}

// New makes a folder in os.TempDir whose name begins with prefix.
func New(prefix string) (*Folder, error) {
	path, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, fmt.Errorf("temporary folder: %w; make it writable, or set TMPDIR", err)
	}
	f := &Folder{path: path}
	// The file gets the name that Abandoned looks for when it is locked, not earlier.
	unnamed := filepath.Join(path, "new")
	if f.lock, err = buildcache.TryLock(unnamed); err == nil {
		err = os.Rename(unnamed, filepath.Join(path, lockName))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("temporary folder: %w", err), f.Remove())
	}
	return f, nil
}

// Abandoned returns the folders with this prefix whose processes have ended without
// removing them. They are locked: the caller removes or releases each.
func Abandoned(prefix string) []*Folder {
	var folders []*Folder
	locks, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*", lockName)) // the pattern is valid
	for _, path := range locks {
		// An error is a folder of another user.
		if lock, err := buildcache.TryLock(path); err == nil && lock != nil {
			folders = append(folders, &Folder{path: filepath.Dir(path), lock: lock})
		}
	}
	return folders
}

// Path is the folder's path.
func (f *Folder) Path() string { return f.path }

// Remove removes the folder and its contents.
func (f *Folder) Remove() error {
	err := os.RemoveAll(f.path)
	return errors.Join(err, f.Release())
}

// Release leaves the folder for the next caller of [Abandoned].
func (f *Folder) Release() error {
	if f.lock == nil {
		return nil
	}
	return f.lock.Close()
}
