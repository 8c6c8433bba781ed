package handover

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// inMemory returns nil if the files of a folder are in memory (statfs(2)), where they are
// lost with the machine's power. On a disk, the key could be next to the sealed file.
func inMemory(folder string) error {
	var stat unix.Statfs_t
	if err := unix.Statfs(folder, &stat); err != nil {
		return fmt.Errorf("%s: %w", folder, err)
	}
	switch uint32(stat.Type) {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return nil
	}
	return fmt.Errorf("%s is not on a tmpfs: the file system's type is %#x", folder, uint32(stat.Type))
}
