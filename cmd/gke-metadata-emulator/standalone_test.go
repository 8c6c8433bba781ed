package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestStandalone_ServesTokenAndEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log, stderr := io.Pipe()
	exit := make(chan int, 1)
	go func() {
		args := strings.Fields("standalone --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --log-format json --log-level debug")
		code := run(ctx, args, environ{"GME_PROJECT_ID": "prod-project", "GME_LOG_LEVEL": "error"}.lookup, io.Discard, stderr)
		_ = stderr.Close()
		exit <- code
	}()
	lines := bufio.NewScanner(log)
	serving := awaitLine(t, lines, "serving")
	rest := make(chan string, 1)
	go func() {
		var b strings.Builder
		for lines.Scan() {
			b.WriteString(lines.Text() + "\n")
		}
		rest <- b.String()
	}()

	client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	get := func(url string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Metadata-Flavor", "Google")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	metadata := "http://" + serving["listen"] + "/computeMetadata/v1/"
	status, body := get(metadata + "instance/service-accounts/default/token")
	var token struct {
		Value     string `json:"access_token"`
		Type      string `json:"token_type"`
		ExpiresIn int    `json:"expires_in"` // seconds
	}
	if err := json.Unmarshal([]byte(body), &token); err != nil || status != 200 || token.Value == "" || token.Type != "Bearer" || token.ExpiresIn < 300 {
		t.Errorf("the token is %d %q (%v)", status, body, err)
	}
	for url, want := range map[string]string{
		metadata + "instance/service-accounts/default/email": "demo@prod-project.iam.gserviceaccount.com",
		metadata + "project/project-id":                      "prod-project",
	} {
		if status, body := get(url); status != 200 || body != want {
			t.Errorf("%s: %d %q, want %q", url, status, body, want)
		}
	}
	_, id := get(metadata + "instance/id")
	if status, body := get("http://" + serving["admin"] + "/readyz"); status != 200 || body != "ok, instance "+id+"\n" {
		t.Errorf("/readyz: %d %q, want it to name the instance %s", status, body, id)
	}
	probe := []string{"probe", "--target", "http://" + serving["listen"], "--admin-listen"}
	if got := run1(t, nil, append(probe, serving["admin"])...); got.code != exitOK {
		t.Errorf("the probe: %+v", got)
	}
	run1(t, nil, append(probe, "127.0.0.1:1")...).oneLine(t, exitFailed, "the daemon is not ready: ")
	if status, body := get("http://" + serving["admin"] + "/metrics"); status != 200 || !strings.Contains(body, `gme_http_requests_total{code="200",endpoint="project/project-id"} 1`) {
		t.Errorf("/metrics: %d, and the requests are missing:\n%s", status, body)
	}

	client.CloseIdleConnections()
	cancel()
	if code := <-exit; code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if log := <-rest; token.Value != "" && strings.Contains(log, token.Value) {
		t.Errorf("the log contains the token:\n%s", log)
	}
}

// awaitLine reads a log in JSON up to the line with the message, and returns the text
// fields of the line.
func awaitLine(t *testing.T, lines *bufio.Scanner, message string) map[string]string {
	t.Helper()
	for lines.Scan() {
		var line map[string]any
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("the log contains %q: %v", lines.Text(), err)
		}
		if line["msg"] != message {
			continue
		}
		fields := map[string]string{}
		for key, value := range line {
			fields[key], _ = value.(string)
		}
		return fields
	}
	t.Fatalf("the log ended without %q", message)
	return nil
}

func TestFakeGoogle_ServesAndEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	log, stderr := io.Pipe()
	exit := make(chan int, 1)
	go func() {
		exit <- run(ctx, strings.Fields("fakegoogle --listen 127.0.0.1:0 --log-format json"), environ{}.lookup, io.Discard, stderr)
		_ = stderr.Close()
	}()
	lines := bufio.NewScanner(log)
	url := awaitLine(t, lines, "serving")["url"]
	go func() { _, _ = io.Copy(io.Discard, log) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	response, err := client.Get(url + "/oauth2/v3/tokeninfo")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	cancel()
	if code := <-exit; code != exitOK {
		t.Errorf("exit code %d", code)
	}
}
