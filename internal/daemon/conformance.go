package daemon

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"slices"
	"time"

	"gke-metadata-emulator/conformance"
)

// Conformance is the settings of [Conformance.Run], which compares a metadata
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
		return wrong("only", "give a part of a name, or a regular expression", "%v", err)
	}
	if !slices.ContainsFunc(conformance.Cases(), func(of conformance.Case) bool { return only.MatchString(of.Name) }) {
		return wrong("only", "see docs/conformance.md for their names", "%q is in the name of no case", c.Only)
	}
	if c.Audience == "" {
		return wrong("audience", "give one like https://conformance.example", "is needed")
	}
	if c.Timeout < 2*time.Second {
		return wrong("timeout", "use 10s", "%s is too short: some cases wait for a second on purpose", c.Timeout)
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

// Run runs the cases. That some have failed is an error.
func (c *Conformance) Run(ctx context.Context, stdout io.Writer) error {
	report := &conformance.Report{}
	var written error
	err := conformance.Run(ctx, c.options, func(r conformance.Result) {
		report.Add(r)
		if c.Output == "text" && written == nil {
			written = r.Text(stdout)
		}
	})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		written = report.JSON(stdout, c.Target)
	} else if written == nil {
		_, written = fmt.Fprintln(stdout, report.Summary())
	}
	if written != nil {
		return fmt.Errorf("write the report: %w", written)
	}
	if failed := report.Count(conformance.Fail); failed > 0 {
		return fmt.Errorf("%s: failed cases: %d", c.Target, failed)
	}
	return nil
}

// metadataURL reads a --target.
func metadataURL(target string) (*url.URL, error) {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return nil, wrong("target", "give one like http://"+MetadataAddress+" or http://127.0.0.1:8080", "%q is not the URL of a metadata server", target)
	}
	return u, nil
}
