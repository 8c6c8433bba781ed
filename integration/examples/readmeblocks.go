package examples

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gke-metadata-emulator/integration/internal/checkout"
)

// RunBlocks runs the commands of an example's README as its reader would who pastes
// its ```sh blocks one after the other into one shell: bash -euo pipefail, in the
// README's folder, with the operator's gcloud and kubectl. It returns what they
// printed to standard output. The path is that of the README from the
// repository's root.
//
// A block behind a line <!-- not run: REASON --> is left out, and the test's log
// says why. So is one that calls gcloud where there is none, see [Fixture.Gcloud].
//
// The README's variables are plain assignments, each on a line of its own:
//
//	PROJECT_ID=my-project
//
// A value of variables takes the place of what is assigned to its name, also in a
// block that is left out. One that no line assigns fails the test, so that a
// README and its test stay together.
func (s *Fixture) RunBlocks(t T, readme string, variables map[string]string) string {
	t.Helper()
	said, err := s.runBlocks(t, readme, variables)
	if err != nil {
		t.Fatal(err)
	}
	return said
}

// Gcloud says whether this machine has gcloud. Where it has none, a test does
// with [Fixture.Cloud] what the README's blocks with gcloud would have done.
func (s *Fixture) Gcloud() bool {
	_, err := exec.LookPath("gcloud")
	return err == nil
}

// Kubectl runs kubectl as the operator, and returns what it printed.
func (s *Fixture) Kubectl(t T, args ...string) string {
	t.Helper()
	return s.Run(t, append([]string{"kubectl"}, args...)...)
}

// Run runs a program of this machine as the operator, and returns what it printed
// to standard output. Like the commands of a README it reaches the stage's
// Internet by a proxy, the cluster, and nothing else.
func (s *Fixture) Run(t T, command ...string) string {
	t.Helper()
	said, err := s.run(t.Context(), command...)
	if err != nil {
		t.Fatal(err)
	}
	return said
}

func (s *Fixture) runBlocks(t T, readme string, variables map[string]string) (string, error) {
	root, err := checkout.Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, readme)
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return s.runText(t, readme, filepath.Dir(path), string(content), variables)
}

// runText runs the commands of a text in a folder.
func (s *Fixture) runText(t T, readme, folder, content string, variables map[string]string) (string, error) {
	t.Helper()
	blocks, err := Blocks(content)
	if err != nil {
		return "", fmt.Errorf("%s: %w", readme, err)
	}
	for i, b := range blocks {
		if b.Reason == "" && callsGcloud.MatchString(b.Text) && !s.Gcloud() {
			blocks[i].Reason = "this machine has no gcloud"
		}
		if blocks[i].Reason != "" {
			t.Logf("%s:%d: not run: %s", readme, b.Line, blocks[i].Reason)
		}
	}
	script, err := script(blocks, variables)
	if err != nil {
		return "", fmt.Errorf("%s: %w", readme, err)
	}
	// By its name bash tells where an error is.
	file := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return "", err
	}
	said, err := s.runIn(t.Context(), folder, "bash", file)
	if err != nil {
		return said, fmt.Errorf("%s: %w", readme, err)
	}
	return said, nil
}

var (
	callsGcloud = regexp.MustCompile(`(?m)(^|[\s;|&(])gcloud\s`)
	assignment  = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)=`)
)

// script is what bash runs: each command on the line that it has in the README,
// so that what bash says of lines is true of the README.
func script(blocks []Block, variables map[string]string) (string, error) {
	// On the first line, which is never one of a block.
	lines := []string{`set -Eeuo pipefail; trap 'echo "line $LINENO of the README, exit code $?: $BASH_COMMAND" >&2' ERR`}
	assigned := map[string]bool{}
	for _, b := range blocks {
		for len(lines) < b.Line-1 {
			lines = append(lines, "")
		}
		for line := range strings.Lines(b.Text) {
			line = strings.TrimSuffix(line, "\n")
			name := ""
			if m := assignment.FindStringSubmatch(line); m != nil {
				name = m[1]
			}
			value, ours := variables[name]
			switch {
			case ours:
				line, assigned[name] = name+"="+quote(value), true
			case b.Reason != "":
				line = ""
			}
			lines = append(lines, line)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		if !assigned[name] {
			return "", fmt.Errorf("no line of a block is %s=…, and the test has a value for it", name)
		}
	}
	return strings.Join(lines, "\n") + "\n", nil
}

func quote(value string) string { return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'" }

// run returns what a program printed to its standard output.
func (s *Fixture) run(ctx context.Context, command ...string) (string, error) {
	return s.runIn(ctx, s.home, command...)
}
