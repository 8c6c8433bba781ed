package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/daemon"
)

func newDNS(env lookupEnv) *cobra.Command {
	c := &cobra.Command{
		Use:   "dns",
		Short: "Make the cluster's DNS resolve the name of the metadata server",
		Long:  "Make the cluster's CoreDNS answer 169.254.169.254 for metadata.google.internal and metadata.",
		RunE: func(*cobra.Command, []string) error {
			return errUsage{fmt.Errorf("a command is missing: install, uninstall or status; see %s dns --help", name)}
		},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errUsage{fmt.Errorf("dns knows no command %q; see %s dns --help", args[0], name)}
			}
			return nil
		},
	}
	c.AddCommand(
		newDNSEdit(env, "install", "Add the metadata server to the cluster's CoreDNS",
			"Add a server block for metadata.google.internal and metadata to the cluster's CoreDNS\nconfiguration, or update it. Nothing else is changed. The changes are printed first.", daemon.InstallDNS),
		newDNSEdit(env, "uninstall", "Remove the metadata server from the cluster's CoreDNS",
			"Remove the server block that install has added. The changes are printed first.", daemon.UninstallDNS),
		newDNSStatus(env))
	return c
}

func newDNSEdit(env lookupEnv, use, short, long string, edit func(context.Context, *config.DNSEdit, io.Writer) error) *cobra.Command {
	d := &config.DNSEdit{}
	return command(&cobra.Command{Use: use, Short: short, Long: long}, env, d, func(c *cobra.Command) error { return edit(c.Context(), d, c.OutOrStdout()) })
}

func newDNSStatus(env lookupEnv) *cobra.Command {
	d := &config.DNSStatus{}
	return command(&cobra.Command{
		Use:   "status",
		Short: "Check that the cluster's CoreDNS answers for the metadata server",
		Long:  "Check that the cluster's CoreDNS answers for the metadata server. Exit code 1: it does not.",
	}, env, d, func(c *cobra.Command) error { return daemon.DNSStatus(c.Context(), d, c.OutOrStdout()) })
}
