package config

import (
	"cmp"
	"path/filepath"

	"github.com/spf13/pflag"
)

const (
	// kindProductName is the file on nodes of kind.
	kindProductName = "/kind/product_name"
	// originalProductName is on the node, in a folder of its own.
	originalProductName = "/var/lib/gke-metadata-emulator/product_name"
)

// DMI says whether containers see Google's DMI product name.
type DMI struct {
	ProductName string // file that containers see as their DMI product name; empty: it is not changed
	Original    string // file with its original content
}

func (d *DMI) flags(f *pflag.FlagSet) {
	f.StringVar(&d.ProductName, "dmi-product-name", "", "`file` that containers see as the DMI product name of their machine; Google Compute Engine is written to it. On nodes of kind it is "+kindProductName+" (default: no file is changed)")
	f.StringVar(&d.Original, "dmi-original", originalProductName, "`file` in which the original content of --dmi-product-name is saved so that cleanup can restore it")
}

func (d *DMI) complete() error {
	if d.ProductName == "" {
		return nil
	}
	d.Original = cmp.Or(d.Original, originalProductName)
	return d.check()
}

func (d *DMI) check() error {
	if !filepath.IsAbs(d.ProductName) {
		return FlagErrorf("dmi-product-name", "give the path of the file; on nodes of kind it is "+kindProductName, "%q is not an absolute path", d.ProductName)
	}
	if d.Original == d.ProductName {
		return FlagErrorf("dmi-original", "give the path of another file, like "+originalProductName, "%q is also the value of --dmi-product-name", d.Original)
	}
	return checkAbsolute("dmi-original", d.Original, originalProductName)
}
