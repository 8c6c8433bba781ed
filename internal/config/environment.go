package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// EnvName returns the environment variable of a flag.
func EnvName(flag string) string {
	return "GME_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Environment is the names of the flags that environment variables have set.
type Environment []string

// FromEnvironment sets each flag that the command line has not set and that has an
// environment variable. The lookup function is [os.LookupEnv], or a test's. The error is
// of the first variable whose value does not have the flag's type.
func FromEnvironment(flags *pflag.FlagSet, lookup func(name string) (string, bool)) (Environment, error) {
	var set Environment
	var first error
	flags.VisitAll(func(f *pflag.Flag) {
		value, found := lookup(EnvName(f.Name))
		if f.Changed || !found || f.Name == "help" {
			return
		}
		if err := flags.Set(f.Name, value); err != nil && first == nil {
			first = fmt.Errorf("%s: %w", EnvName(f.Name), err)
		}
		set = append(set, f.Name)
	})
	if first != nil {
		return nil, first
	}
	return set, nil
}

// Annotate returns err with the name of the environment variable if err is a
// [*FlagError] of a flag that a variable has set.
func (e Environment) Annotate(err error) error {
	var flag *FlagError
	if errors.As(err, &flag) && slices.Contains(e, flag.Flag) {
		return fmt.Errorf("%s: %w", EnvName(flag.Flag), err)
	}
	return err
}
