package main

import (
	"cmp"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gke-metadata-emulator/internal/config"
)

// lookupEnv is os.LookupEnv, or a test's.
type lookupEnv func(string) (string, bool)

// command completes a cobra command. Each flag can also be set by the environment, and
// all settings are checked before anything starts.
func command(c *cobra.Command, env lookupEnv, settings config.Settings, start func(*cobra.Command) error) *cobra.Command {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return errUsage{fmt.Errorf("%s takes no argument %q, settings are flags; see %s --help", c.Name(), args[0], c.CommandPath())}
		}
		return nil
	}
	groups := settings.Flags()
	c.Flags().SortFlags = false
	for _, g := range groups {
		c.Flags().AddFlagSet(g.FlagSet)
	}
	c.SetUsageFunc(func(c *cobra.Command) error {
		printUsage(c.OutOrStderr(), c, groups)
		return nil
	})
	c.RunE = func(c *cobra.Command, _ []string) error {
		set, err := config.FromEnvironment(c.Flags(), env)
		if err != nil {
			return errUsage{err}
		}
		if err := settings.Complete(); err != nil {
			return errUsage{set.Annotate(err)}
		}
		return set.Annotate(start(c))
	}
	return c
}

func printUsage(w io.Writer, c *cobra.Command, groups []config.Group) {
	_, _ = fmt.Fprintf(w, "Usage:\n  %s\n", c.UseLine())
	for _, g := range groups {
		_, _ = fmt.Fprintf(w, "\n%s:\n%s", g.Title, g.FlagUsagesWrapped(100))
	}
	var example string
	groups[0].VisitAll(func(f *pflag.Flag) { example = cmp.Or(example, f.Name) })
	_, _ = fmt.Fprintf(w, "\nEach flag can also be set by an environment variable: --%s by %s. The command line takes\nprecedence.\n", example, config.EnvName(example))
}
