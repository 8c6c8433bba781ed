package config

import "github.com/spf13/pflag"

// Settings are all settings of one command.
type Settings interface {
	// Flags returns the flags, bound to the settings, in the order of the help output. It
	// sets all settings to their flags' defaults.
	Flags() []Group
	// Complete fills in the defaults that follow from other settings. It returns a
	// [*FlagError] for the first setting that is wrong or contradicts another. It is called
	// once.
	Complete() error
}

// Group is flags that belong together, under a title in the help output.
type Group struct {
	Title string
	*pflag.FlagSet
}

// newGroup returns a group with the flags that the functions add, in their order.
func newGroup(title string, add ...func(*pflag.FlagSet)) Group {
	flags := pflag.NewFlagSet(title, pflag.ContinueOnError)
	flags.SortFlags = false
	for _, f := range add {
		f(flags)
	}
	return Group{title, flags}
}

// firstError returns the error of the first check that fails.
func firstError(checks ...func() error) error {
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}
