package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/daemon"
)

func newVerify(env lookupEnv) *cobra.Command {
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check the facts on which this program relies",
		Long:  "Check the facts on which this program relies.",
		RunE: func(*cobra.Command, []string) error {
			return errUsage{fmt.Errorf("a command is missing: google; see %s verify --help", name)}
		},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errUsage{fmt.Errorf("verify knows no command %q; see %s verify --help", args[0], name)}
			}
			return nil
		},
	}
	c.AddCommand(newVerifyGoogle(env))
	return c
}

func newVerifyGoogle(env lookupEnv) *cobra.Command {
	v := &config.VerifyGoogle{}
	return command(&cobra.Command{
		Use:   "google",
		Short: "Check the open facts of docs/facts.md in a scratch project",
		Long:  "Ask Google about the facts of docs/facts.md that nobody has published. In a scratch project of\nyours, service accounts and a workload identity pool are created, and removed at the end. Each\nfact is printed as expected, DIFFERENT (with both answers) or n/a (with the command to run\ninstead). Exit code 1: an answer is different, could not be had, or something is left in the\nproject without --keep.",
	}, env, v, func(c *cobra.Command) error { return daemon.VerifyGoogle(c.Context(), v, c.OutOrStdout()) })
}
