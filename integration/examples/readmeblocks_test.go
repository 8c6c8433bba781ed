package examples

import (
	"strings"
	"testing"
)

// runText pastes a README that is not in the repository.
func runText(t *testing.T, s *Fixture, readme string, variables map[string]string) (string, error) {
	t.Helper()
	return s.runText(t, "README", t.TempDir(), readme, variables)
}

func TestRunBlocks_UsesOneShell(t *testing.T) {
	s := newFixture(t)
	readme := "```sh\nPROJECT_ID=my-project\nKSA=app\n```\n\n<!-- not run: it is a test -->\n```sh\nREGION=us\nexit 9\n```\n" +
		"```sh\nread -r here <<END\n$PROJECT_ID's $KSA in $REGION\nEND\necho \"$here\" # $HOME\n```\n"
	output, err := runText(t, s, readme, map[string]string{"PROJECT_ID": "it's other", "REGION": "eu $(exit 8)"})
	if want := "it's other's app in eu $(exit 8)\n"; err != nil || output != want {
		t.Errorf("%q, %v, want %q", output, err, want)
	}
}

func TestRunBlocks_ReportsTheFailedLine(t *testing.T) {
	s := newFixture(t)
	for name, test := range map[string]struct{ readme, says string }{
		"command":            {"# x\n\n```sh\ntrue\nfalse one\n```\n", "line 5 of the README, exit code 1: false one"},
		"second block":       {"```sh\ntrue\n```\n\n```sh\n\nls /none\n```\n", "line 7 of the README, exit code 2: ls /none"},
		"within a pipe":      {"```sh\nfalse | cat\n```\n", "line 2 of the README"},
		"within a function":  {"```sh\nf() {\n  false\n}\nf\n```\n", "line 3 of the README"},
		"variable not there": {"```sh\ntrue\necho $NONE\n```\n", "README.md: line 3: NONE: unbound variable"},
		"syntax":             {"```sh\ntrue\nif\n```\n", "README.md: line 4: syntax error"},
	} {
		t.Run(name, func(t *testing.T) {
			if output, err := runText(t, s, test.readme, nil); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%q, %v, want an error with %q", output, err, test.says)
			}
		})
	}
	if _, err := runText(t, s, "```sh\nA=b\n```\n", map[string]string{"PROJECT_ID": "x"}); err == nil || !strings.Contains(err.Error(), "no line of a block is PROJECT_ID=") {
		t.Errorf("a value that nothing takes: %v", err)
	}
}
