package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// killWithin bounds the time until killed processes have ended.
const killWithin = 20 * time.Second

// cgroups is a cgroup by its path, in all hierarchies of the machine: with
// cgroup v1 one for each controller, and often a v2 hierarchy beside them.
type cgroups struct {
	path    string // below the root of each hierarchy
	mounts  []string
	unified bool // v2 only
}

func newCgroups(path string) (cgroups, error) {
	content, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return cgroups{}, err
	}
	c := cgroups{path: path, unified: true}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || !strings.HasPrefix(fields[2], "cgroup") || !strings.HasPrefix(fields[1], "/sys/fs/cgroup") {
			continue
		}
		if slices.Contains(c.mounts, fields[1]) {
			continue
		}
		c.mounts = append(c.mounts, fields[1])
		c.unified = c.unified && fields[2] == "cgroup2"
	}
	if len(c.mounts) == 0 {
		return cgroups{}, errors.New("no cgroup hierarchy is mounted below /sys/fs/cgroup")
	}
	return c, nil
}

func (c cgroups) sub(name string) cgroups {
	c.path = filepath.Join(c.path, name)
	return c
}

func (c cgroups) folders() []string {
	folders := make([]string, len(c.mounts))
	for i, m := range c.mounts {
		folders[i] = filepath.Join(m, c.path)
	}
	return folders
}

// members are the folders in which processes are put and found. In the hierarchies of other
// v1 controllers the processes stay with the caller, whose limits apply to them, too.
func (c cgroups) members() []string {
	if c.unified {
		return c.folders()
	}
	var folders []string
	for _, folder := range c.folders() {
		switch strings.Split(strings.TrimPrefix(folder, "/sys/fs/cgroup/"), "/")[0] {
		case "pids", "unified":
			folders = append(folders, folder)
		}
	}
	return folders
}

// make creates the cgroup so that processes can enter it. Its parent must exist.
func (c cgroups) make() error {
	for _, folder := range c.folders() {
		if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("cgroup: %w", err)
		}
		// A v1 cpuset has no CPU and no memory at first.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if err := inherit(filepath.Join(folder, file)); !c.unified && err != nil {
				return fmt.Errorf("cgroup: %w", err)
			}
		}
	}
	return nil
}

func inherit(file string) error {
	parent, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(file)), filepath.Base(file)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(file, parent, 0o644)
}

// delegate lets children of a v2 cgroup have controllers, as kubelet's need. It
// must have no process itself.
func (c cgroups) delegate() error {
	if !c.unified {
		return nil
	}
	for _, folder := range []string{c.mounts[0], c.folders()[0]} {
		for _, controller := range []string{"cpu", "cpuset", "memory", "pids", "io"} {
			if err := os.WriteFile(filepath.Join(folder, "cgroup.subtree_control"), []byte("+"+controller), 0o644); err != nil {
				return fmt.Errorf("cgroup: %w", err)
			}
		}
	}
	return nil
}

// pids returns the processes of the cgroup and of all below it.
func (c cgroups) pids() ([]int, error) {
	var pids []int
	for _, root := range c.folders() {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.Name() != "cgroup.procs" {
				return gone(err)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return gone(err)
			}
			for field := range strings.FieldsSeq(string(content)) {
				if pid, err := strconv.Atoi(field); err == nil && pid > 1 && pid != os.Getpid() && !slices.Contains(pids, pid) {
					pids = append(pids, pid)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return pids, nil
}

// gone lets a cgroup end while it is looked at.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return nil
	}
	return err
}

// kill ends all processes of the cgroup and removes it. Being in the cgroup,
// they are the cluster's, whatever their ids were used for before.
func (c cgroups) kill() error {
	ticker, deadline := time.NewTicker(pollInterval), time.After(killWithin)
	defer ticker.Stop()
	for {
		pids, err := c.pids()
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("end process %d: %w", pid, err)
			}
		}
		left := c.remove()
		if len(pids) == 0 && left == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-deadline:
			return fmt.Errorf("cgroup %s: not empty %s after its processes %v were killed: %w", c.path, killWithin, pids, left)
		}
	}
}

func (c cgroups) remove() error {
	var errs []error
	for _, root := range c.folders() {
		var folders []string
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				folders = append(folders, path)
			}
			return gone(err)
		})
		errs = append(errs, err)
		for _, folder := range slices.Backward(folders) {
			errs = append(errs, gone(syscall.Rmdir(folder)))
		}
	}
	return errors.Join(errs...)
}
