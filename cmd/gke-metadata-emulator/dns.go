package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"gke-metadata-emulator/internal/daemon"
)

func newDNS(env lookupEnv) *cobra.Command {
	c := &cobra.Command{
		Use:   "dns",
		Short: "Have the cluster's DNS know the metadata server by name",
		Long:  "Have the cluster's CoreDNS answer 169.254.169.254 for metadata.google.internal and metadata.",
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
			"Add a server block for metadata.google.internal and metadata to the cluster's CoreDNS\nconfiguration, or bring it up to date. Everything else stays. Shows what changes first.", (*daemon.DNS).Install),
		newDNSEdit(env, "uninstall", "Remove the metadata server from the cluster's CoreDNS",
			"Remove what install has added. Shows what changes first.", (*daemon.DNS).Uninstall),
		newDNSStatus(env))
	return c
}

func newDNSEdit(env lookupEnv, use, short, long string, edit func(*daemon.DNS, context.Context, io.Writer) error) *cobra.Command {
	d := &daemon.DNS{}
	change := newGroup("The change")
	change.BoolVar(&d.Yes, "yes", false, "change it; without, only say what would be changed and end with exit code 2")
	change.BoolVar(&d.DryRun, "dry-run", false, "say what would be changed and end with exit code 0")
	return command(&cobra.Command{Use: use, Short: short, Long: long}, env, d,
		func(c *cobra.Command) error { return edit(d, c.Context(), c.OutOrStdout()) }, change, clusterDNSFlags(d))
}

func newDNSStatus(env lookupEnv) *cobra.Command {
	d := &daemon.DNS{}
	return command(&cobra.Command{
		Use:   "status",
		Short: "Say whether the cluster's CoreDNS knows the metadata server",
		Long:  "Say whether the cluster's CoreDNS is told of the metadata server. Exit code 1: it is not.",
	}, env, d, func(c *cobra.Command) error { return d.Status(c.Context(), c.OutOrStdout()) }, clusterDNSFlags(d))
}

func clusterDNSFlags(d *daemon.DNS) group {
	g := newGroup("The cluster")
	g.StringVar(&d.Kubeconfig, "kubeconfig", "", "`file` that says how to reach the API server (the pod's own service account where empty)")
	g.StringVar(&d.Namespace, "namespace", "kube-system", "`namespace` of CoreDNS")
	g.StringVar(&d.ConfigMap, "configmap", "coredns", "`name` of the ConfigMap with the Corefile")
	g.StringVar(&d.CustomConfigMap, "custom-configmap", "coredns-custom", "`name` of the ConfigMap with server blocks of yours, for a Corefile that imports custom/*.server")
	return g
}
