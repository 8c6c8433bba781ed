package main

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write testdata and docs/flags.md from the commands")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// environ is the environment of a test.
type environ map[string]string

func (e environ) lookup(name string) (string, bool) {
	value, found := e[name]
	return value, found
}

// result is the result of a run of the program.
type result struct {
	code           int
	stdout, stderr string
}

// run1 runs a command line that ends without a signal.
func run1(t *testing.T, env environ, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, env.lookup, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// commands returns the commands of the program that have no subcommands, without cobra's own.
func commands() []*cobra.Command { return leaves(newRoot(environ{}.lookup)) }

func leaves(c *cobra.Command) []*cobra.Command {
	if !c.HasSubCommands() {
		return []*cobra.Command{c}
	}
	var all []*cobra.Command
	for _, sub := range c.Commands() {
		all = append(all, leaves(sub)...)
	}
	return all
}

// words returns the words of a command, for example dns install.
func words(c *cobra.Command) []string { return strings.Fields(c.CommandPath())[1:] }

// flagsOf returns the flags of a command, in the order of its help.
func flagsOf(c *cobra.Command) []*pflag.Flag {
	var all []*pflag.Flag
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			all = append(all, f)
		}
	})
	return all
}

// golden compares a file with the output of the code.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-file +code; -update writes it):\n%s", file, diff)
	}
}

// oneLine fails the test unless the program wrote nothing but one line on standard
// error that contains all parts.
func (r result) oneLine(t *testing.T, code int, parts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d; stderr %q", r.code, code, r.stderr)
	}
	if r.stdout != "" || strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, name+": ") {
		t.Errorf("stdout %q and stderr %q, want one line on stderr", r.stdout, r.stderr)
	}
	for _, part := range parts {
		if !strings.Contains(r.stderr, part) {
			t.Errorf("stderr %q does not contain %q", r.stderr, part)
		}
	}
}
