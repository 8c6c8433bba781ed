package daemon

import (
	"net"
	"net/url"
	"regexp"
	"slices"
	"time"

	"gke-metadata-emulator/conformance"
	"gke-metadata-emulator/internal/probe"
)

// Probe is the settings of the command probe: is the daemon of this node ready, and does
// what pods send to the metadata address reach it? It is a process of its own, as
// the daemon's own connections might take another way than a pod's.
type Probe struct {
	Target      string // as pods name it: http://169.254.169.254
	AdminListen string // the daemon's
	Timeout     time.Duration
}

// Complete returns a [*FlagError] for the first setting that is wrong.
func (p *Probe) Complete() error {
	if _, err := metadataURL(p.Target); err != nil {
		return err
	}
	if err := hostPort("admin-listen", p.AdminListen); err != nil {
		return err
	}
	if p.Timeout <= 0 {
		return FlagErrorf("timeout", "use 2s", "%s is not a time to wait", p.Timeout)
	}
	return nil
}

// Options are those of the probe itself.
func (p *Probe) Options() probe.Options {
	return probe.Options{Target: p.Target, AdminAddress: p.AdminListen, Timeout: p.Timeout}
}

// Conformance is the settings of the command conformance, which compares a metadata
// server with Google's.
type Conformance struct {
	Target   string
	Audience string
	Only     string
	Timeout  time.Duration
	Output   string // text, json

	options conformance.Options
}

// Complete returns a [*FlagError] for the first setting that is wrong.
func (c *Conformance) Complete() error {
	u, err := metadataURL(c.Target)
	if err != nil {
		return err
	}
	only, err := regexp.Compile(c.Only)
	if err != nil {
		return FlagErrorf("only", "give a part of a name, or a regular expression", "%v", err)
	}
	if !slices.ContainsFunc(conformance.Cases(), func(c conformance.Case) bool { return only.MatchString(c.Name) }) {
		return FlagErrorf("only", "see docs/conformance.md for their names", "%q is in the name of no case", c.Only)
	}
	if c.Audience == "" {
		return FlagErrorf("audience", "give one like https://conformance.example", "is needed")
	}
	if c.Timeout < 2*time.Second {
		return FlagErrorf("timeout", "use 10s", "%s is too short: some cases wait for a second on purpose", c.Timeout)
	}
	if err := oneOf("output", c.Output, "text", "json"); err != nil {
		return err
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	c.options = conformance.Options{Target: net.JoinHostPort(u.Hostname(), port), Audience: c.Audience, Only: only, Timeout: c.Timeout}
	return nil
}

// Options are those of the comparison itself.
func (c *Conformance) Options() conformance.Options { return c.options }

// metadataURL reads a --target.
func metadataURL(target string) (*url.URL, error) {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return nil, FlagErrorf("target", "give one like http://"+MetadataAddress+" or http://127.0.0.1:8080", "%q is not the URL of a metadata server", target)
	}
	return u, nil
}

// FakeGoogle is the settings of the command fakegoogle: the offline Google by itself.
type FakeGoogle struct {
	Logging

	Listen    string
	State     string // a file
	AllowAll  bool
	TokenLife time.Duration
}

// Complete returns a [*FlagError] for the first setting that is wrong.
func (f *FakeGoogle) Complete() error {
	if err := hostPort("listen", f.Listen); err != nil {
		return err
	}
	if f.TokenLife <= 0 || f.TokenLife > time.Hour {
		return FlagErrorf("token-life", "use 1h or less", "%s is not between 0 and 1h", f.TokenLife)
	}
	return f.check()
}
