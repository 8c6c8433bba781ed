package attest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sys/unix"
)

// fileidKernfs is the type of a cgroup's file handle, which is the cgroup ID in eight bytes
// (FILEID_KERNFS of the kernel's include/linux/exportfs.h).
const fileidKernfs = 0xfe

// ErrCgroupGone is returned for a removed cgroup, whose container has ended.
var ErrCgroupGone = errors.New("the caller's cgroup does not exist any more: its container has ended")

// Cgroups finds the cgroups of a node, in the unified hierarchy of cgroups(7).
type Cgroups struct {
	root     int // a descriptor in the hierarchy
	kubepods string
	pods     *lru.Cache[uint64, string] // UIDs by cgroup ID; the kernel never reuses an ID
}

// maxContainers is the size of the cache, several times the number of containers of a node.
const maxContainers = 4096

// OpenCgroups finds the cgroup of all pods below a folder of the unified hierarchy. If the
// folder is empty, it searches the usual mount points.
func OpenCgroups(root string) (*Cgroups, error) {
	roots := []string{root}
	if root == "" {
		roots = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} // the second is used together with version 1
	}
	var errs []error
	for _, root := range roots {
		c, err := openCgroups(root)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func openCgroups(root string) (*Cgroups, error) {
	root = filepath.Clean(root)
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		return nil, fmt.Errorf("cgroups: %s: %w", root, err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil, fmt.Errorf("cgroups: %s is not in a unified hierarchy (cgroup2)", root)
	}
	kubepods, err := findKubepods(root)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cgroups: %s: %w", root, err)
	}
	pods, err := lru.New[uint64, string](maxContainers)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &Cgroups{root: fd, kubepods: kubepods, pods: pods}, nil
}

// findKubepods searches the locations where a kubelet creates the cgroup of all pods,
// with either driver: below the given root, or below kind's cgroup, named kubelet.
func findKubepods(root string) (string, error) {
	var found []string
	for _, place := range []string{"kubepods.slice", "kubepods", "*-kubepods.slice", "kubelet/kubepods", "kubelet.slice/kubelet-kubepods.slice"} {
		matches, err := filepath.Glob(filepath.Join(root, place))
		if err != nil {
			return "", fmt.Errorf("cgroups: %s: %w", root, err)
		}
		found = append(found, matches...)
	}
	if len(found) > 1 {
		// A kubelet with a changed driver leaves its old cgroup behind.
		var inUse []string
		for _, path := range found {
			if populated(path) {
				inUse = append(inUse, path)
			}
		}
		found = inUse
	}
	if len(found) != 1 {
		return "", fmt.Errorf("cgroups: below %s there are %d cgroups of pods (kubepods), and one is needed; set --cgroup-root to the folder in which the kubelet makes its cgroup", root, len(found))
	}
	return found[0], nil
}

func populated(path string) bool {
	events, err := os.ReadFile(filepath.Join(path, "cgroup.events"))
	return err == nil && strings.Contains(string(events), "populated 1")
}

// Kubepods returns the folder of the cgroup of all pods.
func (c *Cgroups) Kubepods() string { return c.kubepods }

// Close closes the descriptor of the hierarchy.
func (c *Cgroups) Close() error { return unix.Close(c.root) }

// Probe returns an error if a cgroup cannot be found by its ID.
func (c *Cgroups) Probe() error {
	var folder unix.Stat_t // its inode number is the cgroup ID
	if err := unix.Stat(c.kubepods, &folder); err != nil {
		return fmt.Errorf("cgroups: %s: %w", c.kubepods, err)
	}
	path, err := c.path(folder.Ino)
	if err == nil && path != c.kubepods {
		return fmt.Errorf("cgroups: %s is seen as %s: mount the hierarchy as the node has it", c.kubepods, path)
	}
	return err
}

// PodUID returns the UID of the pod to which a cgroup belongs; for a static pod, the hash
// of its file. Its errors are [*NotAPodError], [*ConflictError] and [ErrCgroupGone].
func (c *Cgroups) PodUID(id uint64) (string, error) {
	if uid, known := c.pods.Get(id); known {
		return uid, nil
	}
	path, err := c.path(id)
	if err != nil {
		return "", err
	}
	uid, err := podUID(c.kubepods, path)
	if err == nil {
		c.pods.Add(id, uid)
	}
	return uid, err
}

// path returns a cgroup's folder by its ID, without a walk of the hierarchy: the ID is a
// file handle (open_by_handle_at(2)), and the kernel knows the name of an open file.
func (c *Cgroups) path(id uint64) (string, error) {
	handle := unix.NewFileHandle(fileidKernfs, binary.NativeEndian.AppendUint64(nil, id))
	fd, err := unix.OpenByHandleAt(c.root, handle, unix.O_PATH|unix.O_CLOEXEC)
	switch {
	case errors.Is(err, unix.ESTALE):
		return "", ErrCgroupGone
	case errors.Is(err, unix.EPERM):
		return "", fmt.Errorf("cgroups: cannot open a cgroup by its number: the process needs the capability DAC_READ_SEARCH: %w", err)
	case err != nil:
		return "", fmt.Errorf("cgroups: open_by_handle_at: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "", fmt.Errorf("cgroups: %w", err)
	}
	if strings.HasSuffix(path, " (deleted)") { // removed since it was opened
		return "", ErrCgroupGone
	}
	return path, nil
}
