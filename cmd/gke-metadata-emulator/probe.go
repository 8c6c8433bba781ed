package main

import (
	"github.com/spf13/cobra"

	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/probe"
)

func newProbe(env lookupEnv) *cobra.Command {
	s := &config.Probe{}
	return command(&cobra.Command{
		Use:   "probe",
		Short: "Check that the daemon of this node is ready and reachable",
		Long:  "Check that the daemon of this node is ready, and that requests to the metadata address\nreach it and no other server. It is the readiness probe of the DaemonSet.",
	}, env, s, func(c *cobra.Command) error {
		return probe.Run(c.Context(), probe.Options{Target: s.Target, AdminAddress: s.AdminListen, Timeout: s.Timeout}, c.OutOrStdout())
	})
}
