package daemon

import (
	"cmp"
	"errors"
	"log/slog"
)

// Cleanup is the settings of [Cleanup.Run]: it undoes what [Serve.Run] leaves.
type Cleanup struct {
	Interface string
	BPFFS     string

	DMIProductName string
	DMIOriginal    string
}

// Complete returns a [*FlagError] for a setting that is wrong.
func (c *Cleanup) Complete() error {
	c.BPFFS = cmp.Or(c.BPFFS, "/sys/fs/bpf")
	if c.Interface == "" {
		return wrong("interface", "use lo", "is needed")
	}
	c.DMIProductName = cmp.Or(c.DMIProductName, KindProductName)
	c.DMIOriginal = cmp.Or(c.DMIOriginal, OriginalProductName)
	return checkDMI(c.DMIProductName, c.DMIOriginal)
}

// Run removes every trace of every mode of routing, and gives the node its DMI
// product name back; it is no error that nothing is there.
func (c *Cleanup) Run() error {
	routing := router{iface: c.Interface, bpffs: c.BPFFS, log: slog.New(slog.DiscardHandler)}.removeAll()
	return errors.Join(routing, productName{c.DMIProductName, c.DMIOriginal}.restore())
}
