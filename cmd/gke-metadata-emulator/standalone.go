package main

import (
	"github.com/spf13/cobra"

	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/daemon"
)

func newStandalone(env lookupEnv) *cobra.Command {
	s := &config.Standalone{}
	return command(&cobra.Command{
		Use:   "standalone",
		Short: "Serve the processes and containers of one machine, without a cluster",
		Long:  "Serve the metadata of GKE's metadata server to the processes and containers of one\nmachine. It needs no cluster, and with the built-in fake no Google account.",
	}, env, s, func(c *cobra.Command) error {
		return daemon.Standalone(c.Context(), s, daemon.Overrides{}, c.ErrOrStderr(), nil)
	})
}
