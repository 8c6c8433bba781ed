package handover

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// inMemory returns nil for a folder whose files are on no disk: what is sealed there is
// gone with the machine's power, and its key may lie on the very disk.
func inMemory(folder string) error {
	var of unix.Statfs_t
	if err := unix.Statfs(folder, &of); err != nil {
		return fmt.Errorf("%s: %w", folder, err)
	}
	switch uint32(of.Type) {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return nil
	}
	return fmt.Errorf("%s is not on a tmpfs, but on a file system of type %#x", folder, uint32(of.Type))
}
