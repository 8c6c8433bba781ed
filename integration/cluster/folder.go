package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gke-metadata-emulator/integration/built"
)

const (
	folderPrefix = "gme-cluster-" // short: sockets have their path in it
	folderLock   = "lock"
)

// folder is where a cluster keeps its files. Its name is also that of the
// cluster's cgroup. It is locked while the cluster lives, so that others can
// tell it from one that a crashed run left.
type folder struct {
	path string
	lock *os.File
}

func newFolder() (*folder, error) {
	path, err := os.MkdirTemp("", folderPrefix)
	if err != nil {
		return nil, fmt.Errorf("folder for the cluster's files: %w; make it writable, or set TMPDIR", err)
	}
	f := &folder{path: path}
	if strings.ContainsAny(path, ",:\\ ") {
		return nil, errors.Join(fmt.Errorf("%s has a character that mount options cannot have; set TMPDIR", path), f.remove())
	}
	// Locked before it has the name that Sweep looks for.
	early := filepath.Join(path, "new")
	if f.lock, err = built.TryLock(early); err == nil {
		err = os.Rename(early, filepath.Join(path, folderLock))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("folder for the cluster's files: %w", err), f.remove())
	}
	return f, nil
}

func (f *folder) cgroups() (cgroups, error) { return newCgroups(filepath.Base(f.path)) }

func (f *folder) remove() error {
	err := os.RemoveAll(f.path)
	if f.lock != nil {
		err = errors.Join(err, f.lock.Close())
	}
	return err
}

// Sweep ends what runs of this package left that could not end it themselves,
// and removes their files. It leaves alone what still runs. [Up] calls it.
func Sweep() error {
	locks, err := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"*", folderLock))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range locks {
		lock, err := built.TryLock(path)
		if err != nil || lock == nil { // in use, or another user's
			continue
		}
		f := &folder{path: filepath.Dir(path), lock: lock}
		groups, err := f.cgroups()
		if err == nil {
			err = groups.kill()
		}
		if err != nil { // the files stay, for the next attempt
			errs = append(errs, fmt.Errorf("what %s left: %w", f.path, err), lock.Close())
			continue
		}
		errs = append(errs, f.remove())
	}
	return errors.Join(errs...)
}
