package daemon

import (
	"cmp"
	"log/slog"
)

// Cleanup is the settings of [Cleanup.Run]: it undoes what [Serve.Run] leaves.
type Cleanup struct {
	Interface string
	BPFFS     string
}

// Complete returns a [*FlagError] for a setting that is wrong.
func (c *Cleanup) Complete() error {
	c.BPFFS = cmp.Or(c.BPFFS, "/sys/fs/bpf")
	if c.Interface == "" {
		return wrong("interface", "use lo", "is needed")
	}
	return nil
}

// Run removes every trace of every mode of routing; it is no error that nothing is
// there.
func (c *Cleanup) Run() error {
	return router{iface: c.Interface, bpffs: c.BPFFS, log: slog.New(slog.DiscardHandler)}.removeAll()
}
