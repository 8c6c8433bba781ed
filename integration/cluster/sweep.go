package cluster

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"gke-metadata-emulator/integration/internal/scratch"
)

// folderPrefix begins the names of the clusters' folders. It is short because the
// paths of sockets contain it.
const folderPrefix = "gme-cluster-"

// newFolder makes the folder of a cluster's files. Its name is also the name of the
// cluster's cgroup.
func newFolder() (*scratch.Folder, error) {
	f, err := scratch.New(folderPrefix)
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(f.Path(), ",:\\ ") {
		return nil, errors.Join(fmt.Errorf("%s has a character that mount options cannot have; set TMPDIR", f.Path()), f.Remove())
	}
	return f, nil
}

func cgroupsFor(f *scratch.Folder) (cgroups, error) { return newCgroups(filepath.Base(f.Path())) }

// Sweep kills the processes of clusters whose test ended without closing them, and
// removes their files. It leaves running tests alone. [Up] calls it.
func Sweep() error {
	var errs []error
	for _, f := range scratch.Abandoned(folderPrefix) {
		groups, err := cgroupsFor(f)
		if err == nil {
			err = groups.kill()
		}
		if err != nil { // the files stay for the next attempt
			errs = append(errs, fmt.Errorf("sweep %s: %w", f.Path(), err), f.Release())
			continue
		}
		errs = append(errs, f.Remove())
	}
	return errors.Join(errs...)
}
