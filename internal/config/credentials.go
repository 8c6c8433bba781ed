package config

import (
	"strings"

	"github.com/spf13/pflag"
)

// The kinds of credentials.
const (
	Federation    = "federation"
	Impersonation = "impersonation"
	Fake          = "fake"
)

// Credentials say how the program authenticates to Google.
type Credentials struct {
	Kind   string // federation, impersonation or fake; not every command has all
	Source string // file of the operator's credential for impersonation; empty: Application Default Credentials
}

// flags takes the kinds that the command has; the first is the default.
func (c *Credentials) flags(f *pflag.FlagSet, kinds []string) {
	meanings := map[string]string{
		Federation:    "federation (Google trusts the cluster's issuer)",
		Impersonation: "impersonation (through one credential of the operator)",
		Fake:          "fake (a built-in offline Google)",
	}
	var usage []string
	for _, kind := range kinds {
		usage = append(usage, meanings[kind])
	}
	last := len(usage) - 1
	choiceVar(f, &c.Kind, "credentials", kinds[0], kinds, "how the program authenticates to Google: "+strings.Join(usage[:last], ", ")+" or "+usage[last])
	f.StringVar(&c.Source, "source-credentials", "", "`file` of the credential for impersonation, in any format of Google's libraries; changes are read while the program runs (default: Application Default Credentials)")
}

func (c *Credentials) check(kinds []string) error {
	if err := checkChoice("credentials", c.Kind, kinds); err != nil {
		return err
	}
	if c.Kind != Impersonation && c.Source != "" {
		return FlagErrorf("source-credentials", "use --credentials=impersonation or leave it out", "is not used with --credentials=%s", c.Kind)
	}
	return nil
}
