package daemon

import (
	"cmp"
	"errors"
	"log/slog"

	"gke-metadata-emulator/internal/dmi"
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
		return FlagErrorf("interface", "use lo", "is needed")
	}
	c.DMIProductName = cmp.Or(c.DMIProductName, KindProductName)
	c.DMIOriginal = cmp.Or(c.DMIOriginal, OriginalProductName)
	c.HandoverFile = cmp.Or(c.HandoverFile, UsualHandoverFile)
	if err := wholePath("handover-file", c.HandoverFile); err != nil {
		return err
	}
	return checkDMI(c.DMIProductName, c.DMIOriginal)
}

// Run removes all traces of all routing modes and the tokens that were left for the
// next instance, and restores the node's DMI product name. It returns nil if there is
// nothing to remove.
func (c *Cleanup) Run() error {
	routes := routing.Options{Interface: c.Interface, BPFFS: c.BPFFS, Log: slog.New(slog.DiscardHandler)}.RemoveAll()
	return errors.Join(routes, handover.Remove(c.HandoverFile), dmi.ProductName{File: c.DMIProductName, OriginalFile: c.DMIOriginal}.Restore())
}
