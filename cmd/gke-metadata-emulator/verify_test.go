package main

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gke-metadata-emulator/fakegoogle"
)

// verifyArgs are a command line that asks an offline Google, in which the operator is not
// an owner of the project.
func verifyArgs(t *testing.T, more ...string) []string {
	t.Helper()
	google := fakegoogle.New(fakegoogle.Options{})
	server := httptest.NewServer(google)
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "credential.json")
	if err := os.WriteFile(file, google.AuthorizedUser("stranger@example.com", server.URL+"/token"), 0o600); err != nil {
		t.Fatal(err)
	}
	return append([]string{"verify", "google", "--project=scratch-project", "--propagation=0s", "--source-credentials", file,
		"--sts-endpoint", server.URL, "--iam-endpoint", server.URL, "--iam-credentials-endpoint", server.URL, "--service-usage-endpoint", server.URL}, more...)
}

func TestVerifyGoogle_ChecksThatDoNotApplyAreExitCode0(t *testing.T) {
	got := run1(t, nil, verifyArgs(t, "--only=^server/")...)
	if got.code != exitOK || got.stderr != "" || strings.Count(got.stdout, "n/a        server/") != 3 ||
		!strings.Contains(got.stdout, "run there: kubectl run conformance") ||
		!strings.HasSuffix(got.stdout, "\n0 expected, 0 different, 3 not applicable, 0 not answered\n") {
		t.Errorf("exit code %d, stderr %q\n%s", got.code, got.stderr, got.stdout)
	}
}

func TestVerifyGoogle_RefusedSetUpIsExitCode1(t *testing.T) {
	got := run1(t, nil, verifyArgs(t, "--only=^federation/exchange")...)
	if got.code != exitFailed || !strings.Contains(got.stderr, "project scratch-project: facts that are different or not answered: 1") ||
		!strings.Contains(got.stdout, "ERROR      federation/exchange is accepted\n           from      ") || strings.Contains(got.stdout, "left in") {
		t.Errorf("exit code %d, stderr %q\n%s", got.code, got.stderr, got.stdout)
	}
}

func TestVerifyGoogle_InvalidSettingIsExitCode2(t *testing.T) {
	key := filepath.Join(t.TempDir(), "credential.json")
	if err := os.WriteFile(key, fakegoogle.New(fakegoogle.Options{}).AuthorizedUser("you@example.com", ""), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, parts := range map[string][]string{
		"":                 {"--project: is needed", "gcloud projects create"},
		"--project 123456": {"--project: ", "give the ID, not the number"},
		"--project demo-project --other-project x":                                       {"--other-project: ", "give the ID"},
		"--project demo-project --project-number x":                                      {"--project-number: ", "gcloud projects describe demo-project"},
		"--project demo-project --only (":                                                {"--only: ", "regular expression"},
		"--project demo-project --only nosuchcheck":                                      {"--only: ", "docs/facts.md"},
		"--project demo-project --propagation -1s":                                       {"--propagation: ", "use 10m"},
		"--project demo-project --universe-domain x":                                     {"--universe-domain: ", "googleapis.com"},
		"--project demo-project --iam-endpoint here":                                     {"--iam-endpoint: ", "https://iam.googleapis.com"},
		"--project demo-project demo":                                                    {`takes no argument "demo"`},
		"--project demo-project --other-project demo-project":                            {"--other-project: is the project of --project"},
		"--project demo-project --service-usage-endpoint http://example.com":             {"--service-usage-endpoint: ", "use https"},
		"--project demo-project --source-credentials KEY --kubeconfig /nonexistent.yaml": {"--kubeconfig: ", "/nonexistent.yaml"},
		"--project demo-project --source-credentials /nonexistent.json":                  {"--source-credentials: ", "gcloud auth application-default login"},
	} {
		run1(t, nil, append([]string{"verify", "google"}, strings.Fields(strings.ReplaceAll(args, "KEY", key))...)...).oneLine(t, exitUsage, parts...)
	}
	run1(t, nil, "verify").oneLine(t, exitUsage, "a command is missing: google", "gke-metadata-emulator verify --help")
	run1(t, nil, "verify", "gogle").oneLine(t, exitUsage, `verify knows no command "gogle"`)
}
