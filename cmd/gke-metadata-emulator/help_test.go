package main

import (
	"cmp"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestHelp_IsOnStandardOutputAndEqualsTestdata(t *testing.T) {
	root := newRoot(environ{}.lookup)
	parents := []*cobra.Command{root}
	for _, c := range root.Commands() {
		if c.HasSubCommands() {
			parents = append(parents, c)
		}
	}
	for _, c := range append(commands(), parents...) {
		args := append(words(c), "--help")
		got := run1(t, nil, args...)
		if got.code != exitOK || got.stderr != "" {
			t.Errorf("%q: exit code %d, stderr %q", args, got.code, got.stderr)
		}
		file := strings.Join(words(c), "-")
		golden(t, filepath.Join("testdata", cmp.Or(file, c.Name())+".help.txt"), got.stdout)
	}
}

func TestHelp_ListsEachFlagOnceUnderATitle(t *testing.T) {
	title := regexp.MustCompile(`(?m)^\S.*:$`)
	for _, c := range commands() {
		help := run1(t, nil, append(words(c), "--help")...).stdout
		for _, f := range flagsOf(c) {
			lines := regexp.MustCompile(`(?m)^      --`+f.Name+` .*`).FindAllStringIndex(help, -1)
			if len(lines) != 1 {
				t.Errorf("%s --help lists --%s %d times", c.Name(), f.Name, len(lines))
				continue
			}
			titles := title.FindAllString(help[:lines[0][0]], -1)
			if len(titles) < 2 { // the first is Usage:
				t.Errorf("%s --help lists --%s without a title", c.Name(), f.Name)
			}
		}
	}
}
