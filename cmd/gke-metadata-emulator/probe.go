package main

import (
	"time"

	"github.com/spf13/cobra"

	"gke-metadata-emulator/internal/daemon"
	"gke-metadata-emulator/internal/probe"
)

func newProbe(env lookupEnv) *cobra.Command {
	s := &daemon.Probe{}
	g := newGroup("What is asked")
	g.StringVar(&s.Target, "target", "http://"+daemon.MetadataAddress, "`URL` at which pods ask")
	g.StringVar(&s.AdminListen, "admin-listen", "127.0.0.1:8989", "`IP:PORT` of the daemon's health and readiness")
	g.DurationVar(&s.Timeout, "timeout", 2*time.Second, "how long all of it may take")
	return command(&cobra.Command{
		Use:   "probe",
		Short: "Say whether the daemon of this node is ready and reached",
		Long:  "Say whether the daemon of this node is ready, and whether what is sent to the metadata\naddress reaches it and no other server. It is the readiness probe of the DaemonSet.",
	}, env, s, func(c *cobra.Command) error { return probe.Run(c.Context(), s.Options(), c.OutOrStdout()) }, g)
}
