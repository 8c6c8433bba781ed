package config

import (
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// choice is a text flag whose values are listed. A value that is not listed is an error
// of the check, not of the parser: the check's error has a remedy, and names the
// environment variable.
type choice struct {
	value   *string
	choices []string
}

func (c *choice) String() string { return *c.value }

func (c *choice) Set(value string) error {
	*c.value = value
	return nil
}

func (c *choice) Type() string { return "string" }

// choiceVar adds a flag that has one of the choices as value.
func choiceVar(flags *pflag.FlagSet, value *string, name, standard string, choices []string, usage string) {
	*value = standard
	flags.Var(&choice{value, choices}, name, usage)
}

// Choices returns the values that a flag can have; nil if they are not listed.
func Choices(f *pflag.Flag) []string {
	if c, ok := f.Value.(*choice); ok {
		return slices.Clone(c.choices)
	}
	return nil
}

// checkChoice is the check of a flag of choiceVar.
func checkChoice(flag, value string, choices []string) error {
	if slices.Contains(choices, value) {
		return nil
	}
	return FlagErrorf(flag, "use one of "+strings.Join(choices, ", "), "%q is not known", value)
}

// patternKey is the key of the annotation that [Pattern] returns.
const patternKey = "pattern"

// setPattern states the form of a flag's values.
func setPattern(flags *pflag.FlagSet, name string, pattern *regexp.Regexp) {
	f := flags.Lookup(name)
	f.Annotations = map[string][]string{patternKey: {pattern.String()}}
}

// Pattern returns a regular expression that each valid value of a flag matches; empty if
// there is none. The empty value, the default of most flags, need not match.
func Pattern(f *pflag.Flag) string {
	if patterns := f.Annotations[patternKey]; len(patterns) > 0 {
		return patterns[0]
	}
	return ""
}

// ipPort is the form of an address with a port. checkIPPort is more exact.
var ipPort = regexp.MustCompile(`^([0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]+$`)

// ipPortVar adds a flag that has an IP address with a port as value.
func ipPortVar(flags *pflag.FlagSet, value *string, name, standard, usage string) {
	flags.StringVar(value, name, standard, usage)
	setPattern(flags, name, ipPort)
}

// checkIPPort is the check of a flag of ipPortVar. The example is part of the remedy, so
// it must not collide with the default of another flag.
func checkIPPort(flag, address, example string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || net.ParseIP(host) == nil {
		return FlagErrorf(flag, "give one like "+example, "%q is not IP:PORT", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return FlagErrorf(flag, "give a port from 0 to 65535", "%q is not IP:PORT", address)
	}
	return nil
}

// httpURL is the form of a URL of an HTTP service.
var httpURL = regexp.MustCompile(`^https?://[^/\s]+(/\S*)?$`)

func isHTTPURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

func checkAbsolute(flag, path, example string) error {
	if !filepath.IsAbs(path) {
		return FlagErrorf(flag, "give one like "+example, "%q is not an absolute path", path)
	}
	return nil
}

// splitCommas returns the elements of a list, nil for an empty one.
func splitCommas(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}
