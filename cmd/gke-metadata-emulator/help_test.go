package main

import (
	"path/filepath"
	"regexp"
	"testing"
)

func TestHelpIsOnStandardOutputAndAsTestdataSays(t *testing.T) {
	for _, c := range append(commands(), newRoot(environ{}.lookup)) {
		args := []string{c.Name(), "--help"}
		if !c.HasParent() {
			args = args[1:]
		}
		got := run1(t, nil, args...)
		if got.code != exitOK || got.stderr != "" {
			t.Errorf("%q: exit code %d, stderr %q", args, got.code, got.stderr)
		}
		golden(t, filepath.Join("testdata", c.Name()+".help.txt"), got.stdout)
	}
}

func TestHelpListsEachFlagOnceUnderTheTitleOfItsGroup(t *testing.T) {
	title := regexp.MustCompile(`(?m)^\S.*:$`)
	for _, c := range commands() {
		help := run1(t, nil, c.Name(), "--help").stdout
		for _, f := range flagsOf(c) {
			lines := regexp.MustCompile(`(?m)^      --`+f.Name+` .*`).FindAllStringIndex(help, -1)
			if len(lines) != 1 {
				t.Errorf("%s --help lists --%s %d times", c.Name(), f.Name, len(lines))
				continue
			}
			titles := title.FindAllString(help[:lines[0][0]], -1)
			if len(titles) < 2 { // Usage: is the first
				t.Errorf("%s --help lists --%s under no title", c.Name(), f.Name)
			}
		}
	}
}
