package main

import (
	"github.com/spf13/cobra"

	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/daemon"
)

func newServe(env lookupEnv) *cobra.Command {
	s := &config.Serve{}
	return command(&cobra.Command{
		Use:   "serve",
		Short: "Serve the pods of one node",
		Long:  "Serve the metadata of GKE's metadata server to the pods of one node.",
	}, env, s, func(c *cobra.Command) error { return daemon.Serve(c.Context(), s, c.ErrOrStderr(), nil) })
}
