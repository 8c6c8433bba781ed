package daemon

import (
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gke-metadata-emulator/internal/podtest"
)

var update = flag.Bool("update", false, "write docs/metrics.md from the code")

func TestMain(m *testing.M) {
	podtest.Main()
	goleak.VerifyTestMain(m)
}

const testProvider = "//iam.googleapis.com/projects/998877665544/locations/global/workloadIdentityPools/on-prem/providers/cluster-1"

var logSettings = Logging{Level: "info", Format: "text"}

// federation is settings that are right, as the flags leave them.
func federation() *Serve {
	return &Serve{
		Project: Project{ID: "prod-project", ClusterName: "kubernetes", ClusterLocation: "europe-west1", UniverseDomain: "googleapis.com"},
		Logging: logSettings, NodeName: "node-1",
		Listen: "169.254.169.254:80", AdminListen: "127.0.0.1:8989", IdentityWait: 2500 * time.Millisecond, Routing: RoutingAddress, Interface: "lo",
		Credentials: Federation, Provider: testProvider,
	}
}

func impersonation() *Serve {
	s := federation()
	s.Credentials, s.Provider, s.Number = Impersonation, "", "998877665544"
	return s
}

func faked() *Serve {
	s := federation()
	s.Credentials, s.Provider, s.ID = Fake, "", ""
	return s
}

// aside keeps a daemon that should not have started away from this machine's network.
func aside(s *Serve) *Serve {
	s.Routing, s.Listen, s.AdminListen = RoutingNone, "127.0.0.1:0", "127.0.0.1:0"
	return s
}

// standalone is settings that are right, as the flags leave them.
func standalone() *Standalone {
	return &Standalone{
		Project: Project{ClusterName: "kubernetes", ClusterLocation: "local-1", UniverseDomain: "googleapis.com"},
		Logging: logSettings, Listen: "127.0.0.1:8080", AdminListen: "127.0.0.1:8989", Namespace: "default", KSA: "default", Credentials: Fake,
	}
}

// flagError fails the test unless err is one line about a flag, with a problem and a
// remedy, that contains text.
func flagError(t *testing.T, err error, flag, text string) {
	t.Helper()
	var wrong *FlagError
	if !errors.As(err, &wrong) {
		t.Fatalf("error %v, want one of --%s", err, flag)
	}
	if wrong.Flag != flag || !strings.Contains(err.Error(), text) {
		t.Errorf("error %q, want one of --%s that holds %q", err, flag, text)
	}
	if wrong.Problem == "" || wrong.Remedy == "" || strings.ContainsAny(err.Error(), "\r\n") {
		t.Errorf("error %q is not one line with a problem and a remedy", err)
	}
}

// file is a file of the test's own.
func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// discard is a log without output.
var discard = slog.New(slog.DiscardHandler)
