package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gke-metadata-emulator/conformance"
)

// startStandalone runs standalone until the test ends, and returns its URL.
func startStandalone(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	log, stderr := io.Pipe()
	exit := make(chan int, 1)
	go func() {
		args := strings.Fields("standalone --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --log-format json")
		code := run(ctx, args, environ{}.lookup, io.Discard, stderr)
		_ = stderr.Close()
		exit <- code
	}()
	lines := bufio.NewScanner(log)
	url := "http://" + awaitLine(t, lines, "serving")["listen"]
	rest := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, log)
		close(rest)
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-exit; code != exitOK {
			t.Errorf("exit code %d", code)
		}
		<-rest
	})
	return url
}

func TestConformance_CorrectServerIsExitCode0(t *testing.T) {
	target := startStandalone(t)
	got := run1(t, nil, "conformance", "--target", target+"/", "--only", "^(values|tokens|identity)/")
	if got.code != exitOK || got.stderr != "" {
		t.Errorf("exit code %d, stderr %q\n%s", got.code, got.stderr, got.stdout)
	}
	for _, pattern := range []string{
		`(?m)^PASS  client      tokens/token_type is Bearer$`,
		`(?m)^n/a   client      identity/unlinked is 404: the caller is linked to a Google service account$`,
		`\n\d+ passed \(documented \d+, .*\); 0 failed; 2 not applicable \(.*\)\n\z`,
	} {
		if !regexp.MustCompile(pattern).MatchString(got.stdout) {
			t.Errorf("the output does not match %s:\n%s", pattern, got.stdout)
		}
	}
	if strings.Contains(got.stdout, "root/") {
		t.Error("--only runs other cases, too")
	}
}

// Each answer of this server is incorrect and contains tokens.
func TestConformance_IncorrectServerIsExitCode1AndNoTokenIsPrinted(t *testing.T) {
	const access, id = "ya29.secret-access-token", "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJzZWNyZXQifQ.c2VjcmV0"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	incorrect := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"access_token":%q,"expires_in":"1"}%s`, access, id)
	})}
	ended := make(chan error, 1)
	go func() { ended <- incorrect.Serve(listener) }()
	defer func() { _ = incorrect.Close(); <-ended }()
	target := "http://" + listener.Addr().String()
	for _, output := range []string{"text", "json"} {
		got := run1(t, environ{"GME_OUTPUT": output}, "conformance", "--target", target, "--only", "(tokens/[adeto]|values/|headers/flavor on a)")
		if got.code != exitFailed || !strings.Contains(got.stderr, target+": failed cases: ") || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
		}
		for _, secret := range []string{access, id, "eyJ"} {
			if strings.Contains(got.stdout, secret) {
				t.Errorf("%s: %s is printed:\n%s", output, secret, got.stdout)
			}
		}
		if !strings.Contains(got.stdout, "[token]") {
			t.Errorf("%s: [token] is missing:\n%s", output, got.stdout)
		}
		if output == "json" {
			var report struct {
				Target         string
				Passed, Failed int
				Cases          []conformance.Result
			}
			if err := json.Unmarshal([]byte(got.stdout), &report); err != nil || report.Target != target || report.Failed == 0 || len(report.Cases) != report.Passed+report.Failed || report.Cases[0].Source == "" {
				t.Errorf("%+v (%v)", report, err)
			}
		} else if !regexp.MustCompile(`(?m)^FAIL  client      tokens/token_type is Bearer\n      from .*\n      expected  .*\n      > GET .*`).MatchString(got.stdout) {
			t.Errorf("the output is\n%s", got.stdout)
		}
	}
}

func TestConformance_UnreachableServerIsExitCode1WithOneLine(t *testing.T) {
	run1(t, nil, "conformance", "--target", "http://127.0.0.1:1").oneLine(t, exitFailed, "the metadata server at 127.0.0.1:1 cannot be reached", "refused")
}

func TestConformance_InvalidSettingIsExitCode2(t *testing.T) {
	for args, parts := range map[string][]string{
		"--target metadata:80":            {"--target: ", "give one like http://169.254.169.254"},
		"--target https://127.0.0.1":      {"--target: "},
		"--target http://127.0.0.1/x":     {"--target: "},
		"--only (":                        {"--only: ", "regular expression"},
		"--only nosuchcase":               {"--only: ", "docs/conformance.md"},
		"--timeout 1s":                    {"--timeout: ", "use 10s"},
		"--output yaml":                   {"--output: ", "use one of text, json"},
		"--audience=":                     {"--audience: is needed"},
		"http://127.0.0.1":                {`takes no argument "http://127.0.0.1"`},
		"--output json --target metadata": {"--target: "},
	} {
		run1(t, nil, append([]string{"conformance"}, strings.Fields(args)...)...).oneLine(t, exitUsage, parts...)
	}
}

const casesHeading = "## The cases\n"

func TestConformance_DocumentListsTheCases(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "conformance.md")
	document, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	byHand, _, found := strings.Cut(string(document), casesHeading)
	if !found {
		t.Fatalf("%s has no %q", file, casesHeading)
	}
	var b strings.Builder
	b.WriteString(byHand + casesHeading + "\n| Case | Truth | Source |\n|---|---|---|\n")
	for _, c := range conformance.Cases() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.Name, c.Truth, c.Evidence())
		if strings.ContainsAny(c.Name+c.Evidence(), "|\n`<>") {
			t.Errorf("%s does not fit into a table", c.Name)
		}
	}
	golden(t, file, b.String())
}
