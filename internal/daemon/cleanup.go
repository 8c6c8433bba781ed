package daemon

import (
	"cmp"
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"gke-metadata-emulator/internal/handover"
	"gke-metadata-emulator/routing"
)

// Cleanup is the settings of [Cleanup.Run]: it undoes what [Serve.Run] leaves.
type Cleanup struct {
	Interface string
	BPFFS     string

	DMIProductName string
	DMIOriginal    string

	HandoverFile string
}

// Complete returns a [*FlagError] for a setting that is wrong.
func (c *Cleanup) Complete() error {
	c.BPFFS = cmp.Or(c.BPFFS, "/sys/fs/bpf")
	if c.Interface == "" {
		return wrong("interface", "use lo", "is needed")
	}
	c.DMIProductName = cmp.Or(c.DMIProductName, KindProductName)
	c.DMIOriginal = cmp.Or(c.DMIOriginal, OriginalProductName)
	c.HandoverFile = cmp.Or(c.HandoverFile, UsualHandoverFile)
	if err := wholePath("handover-file", c.HandoverFile); err != nil {
		return err
	}
	return checkDMI(c.DMIProductName, c.DMIOriginal)
}

// Run removes every trace of every mode of routing and the tokens that were left for
// the next instance, and gives the node its DMI product name back; it is no error that
// nothing is there.
func (c *Cleanup) Run() error {
	routes := routing.Options{Interface: c.Interface, BPFFS: c.BPFFS, Log: slog.New(slog.DiscardHandler)}.RemoveAll()
	tokens := handover.Remove(c.HandoverFile)
	removeFolderOf(c.HandoverFile)
	return errors.Join(routes, tokens, productName{c.DMIProductName, c.DMIOriginal}.restore())
}

// removeFolderOf removes the folder of a file that is gone, if it is one of ours.
func removeFolderOf(file string) {
	if folder := filepath.Dir(file); filepath.Base(folder) == "gke-metadata-emulator" {
		_ = os.Remove(folder) // unless it is a mount, or holds something
	}
}
