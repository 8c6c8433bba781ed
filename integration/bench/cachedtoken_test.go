package bench

import (
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/integration/kubernetes"
)

var (
	measure = flag.Bool("measure", false, "measure for real, and fail if a goal is missed")
	profile = flag.String("profile", "", "write CPU profiles of the daemon with 16 connections to this `folder`")
)

// A cached token costs little more than a web server that returns constant bytes.
func TestCachedToken_CostsLittleMoreThanAConstantResponse(t *testing.T) {
	rounds, window := 1, 100*time.Millisecond
	if *measure {
		rounds, window = 9, 2*time.Second // nine: each of three variants is first, second and last equally often
	}
	n := newNode(t)
	attested := n.attested(n.pod("app", podIP))
	daemon := n.daemon(attested...)
	n.awaitToken(daemon, podIP)
	floor := buildProgram(t, "integration", "./bench/floor")
	response := recordedResponse(t, daemon, podIP)
	bare, hard := startFloor(t, floor, response), startFloor(t, floor, response, "-hard")

	var table report
	for _, l := range []load{{connections: 1}, {connections: 16}, {connections: 128}, {connections: 16, reconnect: true}} {
		medians := l.compare(t, rounds, window, daemon, bare, hard)
		table.add(comparison{load: l, daemon: medians[0], bare: medians[1], hard: medians[2], goals: goalsFor(l)})
	}

	// The second daemon starts only now: each daemon adds a program to the kernel's
	// connect path, which slows new connections to all servers.
	file := filepath.Join(t.TempDir(), "audit.log")
	audited := n.daemon(append(attested, "--audit-log", file)...)
	n.awaitToken(audited, podIP)
	l := load{connections: 16}
	medians := l.compare(t, rounds, window, audited, bare, hard)
	table.add(comparison{load: l, note: ", audit log on", daemon: medians[0], bare: medians[1], hard: medians[2], goals: goals{perSecond: 0.75}})

	t.Logf("a cached token, no two requests alike, medians of %d windows of %s\n\n%s", rounds, window, &table)
	if *measure {
		for _, missed := range table.missed() {
			t.Error(missed)
		}
	}
}

// goalsFor returns the goals of a load without the audit log.
func goalsFor(l load) goals {
	g := goals{perSecond: 0.90, p99: 1.3}
	if l.connections == 16 && !l.reconnect {
		g.cpu = 1.2
	}
	return g
}

// TestCachedToken_Profile writes the CPU profiles that -profile requests: with kept
// connections, and with a new one for each request.
func TestCachedToken_Profile(t *testing.T) {
	if *profile == "" {
		t.Skip("no -profile")
	}
	folder, err := filepath.Abs(*profile)
	if err != nil {
		t.Fatal(err)
	}
	window := 10 * time.Second
	if !*measure {
		window = time.Second
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	n := newNode(t)
	n.binary = buildProfiled(t)
	attested := n.attested(n.pod("app", podIP))
	for name, reconnect := range map[string]bool{"kept": false, "new": true} {
		file := filepath.Join(folder, name+".pprof")
		t.Setenv("BENCH_PROFILE", file)
		daemon := n.daemon(attested...)
		n.awaitToken(daemon, podIP)
		l := load{connections: 16, sourceIP: podIP, path: tokenPath, reconnect: reconnect}
		if _, err := l.run(t.Context(), daemon.address, window/10); err != nil { // warm up
			t.Fatal(err)
		}
		stop := daemon.startProfile(t, file)
		_, err = l.run(t.Context(), daemon.address, window)
		stop()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("go tool pprof -top -cum %s", file)
	}
}

// recordedResponse is the daemon's response to a token request, as the floor's input.
func recordedResponse(t *testing.T, daemon *program, ip string) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+daemon.address+tokenPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Metadata-Flavor", "Google")
	response, err := kubernetes.Client(t, ip).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", response.Status, body, err)
	}
	response.Header.Del("Date") // net/http adds it
	recorded, err := json.Marshal(struct {
		Header http.Header
		Body   []byte
	}{response.Header, body})
	if err != nil {
		t.Fatal(err)
	}
	return recorded
}

// A missed goal is reported with the load, the measured ratio and the goal.
func TestReport_ListsMissedGoals(t *testing.T) {
	hard := sample{perSecond: 1000, p99: 1e-3, cpu: 10e-6}
	var table report
	table.add(comparison{load: load{connections: 16}, daemon: sample{perSecond: 899, p99: 1.31e-3, cpu: 12.1e-6}, bare: hard, hard: hard, goals: goalsFor(load{connections: 16})})
	table.add(comparison{load: load{connections: 1}, daemon: sample{perSecond: 900, p99: 1.3e-3, cpu: 12.1e-6}, bare: hard, hard: hard, goals: goalsFor(load{connections: 1})})
	missed := table.missed()
	expected := []string{
		"16 kept: 0.899 of hard's requests a second, goal: at least 0.90",
		"16 kept: 1.310 times hard's p99, goal: at most 1.30",
		"16 kept: 1.210 times hard's CPU per request, goal: at most 1.20",
	}
	if strings.Join(missed, "\n") != strings.Join(expected, "\n") {
		t.Errorf("missed goals:\n%s\nexpected:\n%s", strings.Join(missed, "\n"), strings.Join(expected, "\n"))
	}
	if !strings.Contains(table.String(), "| 16 kept | 0.90 (≥ 0.90) missed |") {
		t.Errorf("the table does not mark the missed goal:\n%s", &table)
	}
}
