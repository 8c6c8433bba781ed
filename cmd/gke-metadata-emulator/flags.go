package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gke-metadata-emulator/internal/daemon"
)

// lookupEnv is os.LookupEnv, or a test's.
type lookupEnv func(string) (string, bool)

// group is flags that belong together, under a title in --help.
type group struct {
	title string
	*pflag.FlagSet
}

func newGroup(title string) group {
	set := pflag.NewFlagSet(title, pflag.ContinueOnError)
	set.SortFlags = false
	return group{title, set}
}

// program is what a command runs once its flags are right.
type program interface {
	Complete() error
}

// command makes a cobra command of a program: its flags in groups, each flag also
// by environment, everything checked before anything starts.
func command(c *cobra.Command, env lookupEnv, settings program, start func(*cobra.Command) error, groups ...group) *cobra.Command {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return errUsage{fmt.Errorf("%s takes no argument %q, settings are flags; see %s --help", c.Name(), args[0], c.CommandPath())}
		}
		return nil
	}
	c.Flags().SortFlags = false
	for _, g := range groups {
		c.Flags().AddFlagSet(g.FlagSet)
	}
	c.SetUsageFunc(func(c *cobra.Command) error {
		printUsage(c.OutOrStderr(), c, groups)
		return nil
	})
	c.RunE = func(c *cobra.Command, _ []string) error {
		set, err := fromEnvironment(c.Flags(), env)
		if err != nil {
			return err
		}
		if err := settings.Complete(); err != nil {
			return errUsage{set.named(err)}
		}
		return set.named(start(c))
	}
	return c
}

func printUsage(w io.Writer, c *cobra.Command, groups []group) {
	_, _ = fmt.Fprintf(w, "Usage:\n  %s\n", c.UseLine())
	for _, g := range groups {
		_, _ = fmt.Fprintf(w, "\n%s:\n%s", g.title, g.FlagUsagesWrapped(100))
	}
	var example string
	groups[0].VisitAll(func(f *pflag.Flag) { example = cmp.Or(example, f.Name) })
	_, _ = fmt.Fprintf(w, "\nEach flag can be set by environment too: --%s is %s. The command line wins.\n", example, envName(example))
}

// envName is the environment variable of a flag.
func envName(flag string) string {
	return "GME_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// environment is the flags that were set by environment.
type environment []string

// fromEnvironment sets the flags that the command line did not.
func fromEnvironment(flags *pflag.FlagSet, env lookupEnv) (environment, error) {
	var set environment
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		value, found := env(envName(f.Name))
		if f.Changed || !found || f.Name == "help" {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			errs = append(errs, errUsage{fmt.Errorf("%s: %w", envName(f.Name), err)})
		}
		set = append(set, f.Name)
	})
	if len(errs) > 0 {
		return nil, errs[0] // one line
	}
	return set, nil
}

// named puts the variable's name before the error of a flag that it set.
func (e environment) named(err error) error {
	var flag *daemon.FlagError
	if errors.As(err, &flag) && slices.Contains(e, flag.Flag) {
		return fmt.Errorf("%s: %w", envName(flag.Flag), err)
	}
	return err
}

// usage says whether err is a setting's fault.
func usage(err error) bool {
	var flag *daemon.FlagError
	return errors.As(err, &flag)
}

func logFlags(l *daemon.Logging) group {
	g := newGroup("Logging")
	g.StringVar(&l.Level, "log-level", "info", "debug, info, warn or error")
	g.StringVar(&l.Format, "log-format", "text", "text or json")
	return g
}

func projectFlags(p *daemon.Project, required string) group {
	g := newGroup("What the metadata says")
	g.StringVar(&p.ID, "project-id", "", "`ID` of the Google project that the pods work in ("+required+")")
	g.StringVar(&p.Number, "project-number", "", "`number` of that project (with federation: the provider's project where empty)")
	g.StringVar(&p.WorkloadPool, "workload-pool", "", "workload identity `pool`, shown as e-mail of service accounts that are linked to none (PROJECT_ID.svc.id.goog where empty)")
	g.StringVar(&p.ClusterName, "cluster-name", "kubernetes", "`name` of the cluster")
	g.StringVar(&p.ClusterLocation, "cluster-location", "local-1", "`region` or zone of the cluster")
	g.StringVar(&p.Zone, "zone", "", "`zone` of the node (by its label topology.kubernetes.io/zone where empty, or else derived from --cluster-location)")
	g.StringVar(&p.AttributesFile, "attributes-file", "", "YAML `file` of further instance and project attributes, read again when it changes")
	g.StringVar(&p.UniverseDomain, "universe-domain", "googleapis.com", "`domain` of Google's APIs")
	return g
}

func googleFlags(f *daemon.Google, fakeListen string) group {
	g := newGroup("Google's endpoints")
	g.StringVar(&f.STS, "sts-endpoint", "", "`URL` of the Security Token Service (https://sts.UNIVERSE_DOMAIN where empty)")
	g.StringVar(&f.IAMCredentials, "iam-credentials-endpoint", "", "`URL` of IAM Credentials (https://iamcredentials.UNIVERSE_DOMAIN where empty)")
	g.StringVar(&f.IAM, "iam-endpoint", "", "`URL` of IAM (https://iam.UNIVERSE_DOMAIN where empty)")
	g.StringVar(&f.FakeListen, "fake-listen", fakeListen, "`IP:PORT` of the built-in fake of --credentials=fake (a free loopback port where empty)")
	return g
}
