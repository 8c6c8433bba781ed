package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"gke-metadata-emulator/internal/config"
)

const name = "gke-metadata-emulator"

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // it ran, and failed
	exitUsage  = 2 // a setting is wrong or contradicts another; nothing was started
)

// errUsage marks errors for which nothing has been started.
type errUsage struct{ error }

func (e errUsage) Unwrap() error { return e.error }

// run runs the command line and returns the exit code.
func run(ctx context.Context, args []string, env lookupEnv, stdout, stderr io.Writer) int {
	root := newRoot(env)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintf(stderr, "%s: %v\n", name, err)
	if errors.As(err, new(errUsage)) || errors.As(err, new(*config.FlagError)) {
		return exitUsage
	}
	return exitFailed
}

func newRoot(env lookupEnv) *cobra.Command {
	root := &cobra.Command{
		Use:           name,
		Short:         "GKE's Workload Identity for any Kubernetes cluster",
		Long:          "GKE's Workload Identity for any Kubernetes cluster: answers the metadata endpoints at\n169.254.169.254 with the token of the Google service account that a pod's Kubernetes\nservice account is annotated with.",
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(c *cobra.Command, args []string) error {
			return errUsage{fmt.Errorf("a command is missing; see %s --help", name)}
		},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errUsage{fmt.Errorf("the command %q is not known; see %s --help", args[0], name)}
			}
			return nil
		},
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return errUsage{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newServe(env), newStandalone(env), newFakeGoogle(env), newConformance(env), newProbe(env), newCleanup(env), newDNS(env), newVerify(env))
	return root
}
