package main

import (
	"github.com/spf13/cobra"

	"gke-metadata-emulator/internal/daemon"
)

func newCleanup(env lookupEnv) *cobra.Command {
	s := &daemon.Cleanup{}
	node := newGroup("The node")
	node.StringVar(&s.Interface, "interface", "lo", "`name` of the interface that serve --routing=address used")
	node.StringVar(&s.BPFFS, "bpffs", "/sys/fs/bpf", "`folder` of the bpffs that serve --routing=ebpf used")
	node.StringVar(&s.DMIProductName, "dmi-product-name", daemon.KindProductName, "`file` that serve --dmi-product-name wrote to")
	node.StringVar(&s.DMIOriginal, "dmi-original", daemon.OriginalProductName, "`file` where serve kept what that one held")
	node.StringVar(&s.HandoverFile, "handover-file", daemon.UsualHandoverFile, "`file` where serve left its tokens")
	return command(&cobra.Command{
		Use:   "cleanup",
		Short: "Remove from a node what serve leaves there on purpose",
		Long:  "Remove from a node what serve leaves there when it ends, so that no pod ever falls\nthrough to another metadata server: the redirect of --routing=ebpf, the table of\n--routing=nftables and the address of --routing=address. A DMI product name that serve\nreplaced is put back, and the tokens that it left for the next instance are removed.",
	}, env, s, func(*cobra.Command) error { return s.Run() }, node)
}
