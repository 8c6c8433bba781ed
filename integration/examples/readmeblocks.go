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

// RunBlocks runs the commands of an example's README as if its reader pasted its ```sh
// blocks one after the other into one shell: bash -euo pipefail, in the README's folder,
// with the operator's gcloud and kubectl. It returns their standard output. The path of the
// README is relative to the repository's root.
//
// A block behind a line <!-- not run: REASON --> is skipped, and the test's log has the
// reason. A block that calls gcloud is skipped if gcloud is missing, see [Fixture.Gcloud].
//
// The README's variables are plain assignments, each on a separate line:
//
//	PROJECT_ID=my-project
//
// An entry of variables replaces the value that is assigned to its name, even in a skipped
// block. An entry without an assignment fails the test, so a README and its test stay in
// sync.
func (s *Fixture) RunBlocks(t T, readme string, variables map[string]string) string {
	t.Helper()
	output, err := s.runBlocks(t, readme, variables)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// Gcloud reports whether this machine has gcloud. If it has none, a test uses
// [Fixture.Cloud] instead of the README's blocks with gcloud.
func (s *Fixture) Gcloud() bool {
	_, err := exec.LookPath("gcloud")
	return err == nil
}

// Kubectl runs kubectl as the operator, and returns its standard output.
func (s *Fixture) Kubectl(t T, args ...string) string {
	t.Helper()
	return s.Run(t, append([]string{"kubectl"}, args...)...)
}

// Run runs a program of this machine as the operator, and returns its standard output. Like
// the commands of a README, it reaches the fixture's Internet by a proxy, the cluster, and
// nothing else.
func (s *Fixture) Run(t T, command ...string) string {
	t.Helper()
	output, err := s.run(t.Context(), command...)
	if err != nil {
		t.Fatal(err)
	}
	return output
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
	return s.runList(t, readme, folder, blocks, variables)
}

// runSkipped runs the one block that the reader of a text runs at another time and that
// contains a command.
func (s *Fixture) runSkipped(t T, readme, folder, content, command string, variables map[string]string) (string, error) {
	t.Helper()
	blocks, err := Blocks(content)
	if err != nil {
		return "", fmt.Errorf("%s: %w", readme, err)
	}
	found := 0
	for i, b := range blocks {
		blocks[i].Reason = "it is not its time"
		if b.Reason != "" && strings.Contains(b.Text, command) {
			blocks[i].Reason = ""
			found++
		}
	}
	if found != 1 {
		return "", fmt.Errorf("%s: %d skipped blocks contain %s, want 1", readme, found, command)
	}
	return s.runList(t, readme, folder, blocks, variables)
}

func (s *Fixture) runList(t T, readme, folder string, blocks []Block, variables map[string]string) (string, error) {
	t.Helper()
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
	// Bash reports errors with the name of the file.
	file := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return "", err
	}
	output, err := s.runIn(t.Context(), folder, "bash", file)
	if err != nil {
		return output, fmt.Errorf("%s: %w", readme, err)
	}
	return output, nil
}

var (
	callsGcloud = regexp.MustCompile(`(?m)(^|[\s;|&(])gcloud\s`)
	assignment  = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)=`)
)

// script is the script for bash: each command is on its line of the README, so the line
// numbers in bash's messages are those of the README.
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

// run returns a program's standard output.
func (s *Fixture) run(ctx context.Context, command ...string) (string, error) {
	return s.runIn(ctx, s.home, command...)
}
