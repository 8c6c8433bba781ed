package config

import (
	"net"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"gke-metadata-emulator/conformance"
	"gke-metadata-emulator/internal/wellknown"
)

const standardTarget = "http://" + wellknown.MetadataIPv4

// minCaseTimeout is longer than the cases that wait on purpose.
const minCaseTimeout = 2 * time.Second

// Conformance is the settings of the comparison of a metadata server with Google's.
type Conformance struct {
	Target   string
	Audience string
	Only     string // a regular expression
	Timeout  time.Duration
	Output   string // text, json
}

func conformanceOutputs() []string { return []string{"text", "json"} }

// Flags implements [Settings].
func (c *Conformance) Flags() []Group {
	return []Group{
		newGroup("The server", func(f *pflag.FlagSet) {
			f.StringVar(&c.Target, "target", standardTarget, "`URL` of the metadata server, of any implementation")
			f.StringVar(&c.Audience, "audience", "https://conformance.example", "`audience` of the ID tokens that the cases request")
		}),
		newGroup("The cases", func(f *pflag.FlagSet) {
			f.StringVar(&c.Only, "only", "", "run only the cases whose names contain this `text` or match this regular expression (default: all)")
			f.DurationVar(&c.Timeout, "timeout", 10*time.Second, "longest duration of one case")
			choiceVar(f, &c.Output, "output", "text", conformanceOutputs(), "format of the report: text or json")
		}),
	}
}

// Complete implements [Settings].
func (c *Conformance) Complete() error {
	_, err := c.Options()
	return err
}

// Options returns the settings as options of package conformance.
func (c *Conformance) Options() (conformance.Options, error) {
	u, err := parseTarget(c.Target)
	if err != nil {
		return conformance.Options{}, err
	}
	only, err := regexp.Compile(c.Only)
	if err != nil {
		return conformance.Options{}, FlagErrorf("only", "give a part of a name, or a regular expression", "%v", err)
	}
	if !slices.ContainsFunc(conformance.Cases(), func(one conformance.Case) bool { return only.MatchString(one.Name) }) {
		return conformance.Options{}, FlagErrorf("only", "see docs/conformance.md for the names of the cases", "%q is in the name of no case", c.Only)
	}
	if c.Audience == "" {
		return conformance.Options{}, FlagErrorf("audience", "give one like https://conformance.example", "is needed")
	}
	if c.Timeout < minCaseTimeout {
		return conformance.Options{}, FlagErrorf("timeout", "use 10s", "%s is too short: some cases wait for a second on purpose", c.Timeout)
	}
	if err := checkChoice("output", c.Output, conformanceOutputs()); err != nil {
		return conformance.Options{}, err
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	return conformance.Options{Target: net.JoinHostPort(u.Hostname(), port), Audience: c.Audience, Only: only, Timeout: c.Timeout}, nil
}

// parseTarget is the check of a flag --target.
func parseTarget(target string) (*url.URL, error) {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return nil, FlagErrorf("target", "give one like "+standardTarget+" or http://127.0.0.1:8080", "%q is not the URL of a metadata server", target)
	}
	return u, nil
}
