package local

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a block of commands of a README, or one behind <!-- not run: REASON -->.
var block = regexp.MustCompile("(?ms)^(?:<!-- not run: ([^\n]+?) -->\n+)?```sh\n(.*?)^```$")

// commands are the commands in the named sections of an example's README, in order. The log
// lists skipped blocks with the reasons; leave can add reasons.
func commands(t *testing.T, example string, leave func(block string) (reason string), headings ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../../examples", example, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(content), "\n## ")
	script := "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n"
	for _, heading := range headings {
		found := 0
		for _, section := range sections {
			title, text, _ := strings.Cut(section, "\n")
			if strings.TrimPrefix(title, "# ") != heading {
				continue
			}
			for _, b := range block.FindAllStringSubmatch(text, -1) {
				reason, command := b[1], b[2]
				if reason == "" {
					reason = leave(command)
				}
				if reason != "" {
					t.Logf("not run: %s:\n%s", reason, command)
					continue
				}
				script += command
				found++
			}
		}
		if found == 0 {
			t.Fatalf("examples/%s/README.md: no commands below the heading %q", example, heading)
		}
	}
	if n, m := strings.Count(string(content), "<!-- not run"), strings.Count(string(content), "-->\n```sh\n"); n != m {
		t.Fatalf("examples/%s/README.md: %d markers, %d of them of a block; write <!-- not run: REASON --> on the line before ```sh", example, n, m)
	}
	return script
}
