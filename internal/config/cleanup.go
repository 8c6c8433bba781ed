package config

import (
	"cmp"

	"github.com/spf13/pflag"
)

// Cleanup is the settings of the command that removes what serve leaves on a node. They
// have defaults that serve does not have: a file that does not exist is no error.
type Cleanup struct {
	Interface    string
	BPFFS        string
	DMI          DMI
	HandoverFile string
}

// Flags implements [Settings].
func (c *Cleanup) Flags() []Group {
	return []Group{newGroup("The node", func(f *pflag.FlagSet) {
		f.StringVar(&c.Interface, "interface", standardInterface, "`name` of the interface to which serve --routing=address has added the metadata address")
		f.StringVar(&c.BPFFS, "bpffs", standardBPFFS, "`folder` where the bpffs is mounted in which serve --routing=ebpf has pinned its redirect")
		f.StringVar(&c.DMI.ProductName, "dmi-product-name", kindProductName, "`file` that serve --dmi-product-name has changed")
		f.StringVar(&c.DMI.Original, "dmi-original", originalProductName, "`file` in which serve has saved its original content")
		f.StringVar(&c.HandoverFile, "handover-file", StandardHandoverFile, "`file` in which serve has left its tokens")
	})}
}

// Complete implements [Settings].
func (c *Cleanup) Complete() error {
	c.BPFFS = cmp.Or(c.BPFFS, standardBPFFS)
	c.DMI.ProductName = cmp.Or(c.DMI.ProductName, kindProductName)
	c.DMI.Original = cmp.Or(c.DMI.Original, originalProductName)
	c.HandoverFile = cmp.Or(c.HandoverFile, StandardHandoverFile)
	if c.Interface == "" {
		return FlagErrorf("interface", "use "+standardInterface, "is needed")
	}
	if err := checkAbsolute("handover-file", c.HandoverFile, StandardHandoverFile); err != nil {
		return err
	}
	return c.DMI.check()
}
