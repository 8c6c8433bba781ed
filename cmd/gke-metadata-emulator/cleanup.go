package main

import (
	"github.com/spf13/cobra"

	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/daemon"
)

func newCleanup(env lookupEnv) *cobra.Command {
	s := &config.Cleanup{}
	return command(&cobra.Command{
		Use:   "cleanup",
		Short: "Remove everything from a node that serve leaves there on purpose",
		Long:  "Remove everything from a node that serve leaves there when it ends, so no pod ever reaches\nanother metadata server: the redirect of --routing=ebpf, the table of --routing=nftables\nand the address of --routing=address. The original DMI product name is restored, and the\ntokens that serve has left for the next instance are removed.",
	}, env, s, func(*cobra.Command) error { return daemon.Cleanup(s) })
}
