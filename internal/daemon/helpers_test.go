package daemon

import (
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/podtest"
	"gke-metadata-emulator/routing"
)

var update = flag.Bool("update", false, "write docs/metrics.md from the code")

func TestMain(m *testing.M) {
	podtest.Main()
	goleak.VerifyTestMain(m)
}

const testProvider = "//iam.googleapis.com/projects/998877665544/locations/global/workloadIdentityPools/on-prem/providers/cluster-1"

// federation returns valid settings.
func federation() *config.Serve {
	s := config.NewServe()
	s.Node.Name, s.Provider.Name = "node-1", testProvider
	s.Project.ID, s.Project.ClusterLocation = "prod-project", "europe-west1"
	return s
}

func impersonation() *config.Serve {
	s := federation()
	s.Credentials.Kind, s.Provider.Name, s.Project.Number = config.Impersonation, "", "998877665544"
	return s
}

// withoutRouting keeps a daemon that should not have started away from this machine's
// network.
func withoutRouting(s *config.Serve) *config.Serve {
	s.Routing.Mode, s.Listen = routing.ModeNone, config.Listen{Address: "127.0.0.1:0", Admin: "127.0.0.1:0"}
	return s
}

// flagError fails the test unless err is one line about a flag, with a problem and a
// remedy, that contains text.
func flagError(t *testing.T, err error, flag, text string) {
	t.Helper()
	var flagErr *config.FlagError
	if !errors.As(err, &flagErr) {
		t.Fatalf("error %v, want one of --%s", err, flag)
	}
	if flagErr.Flag != flag || !strings.Contains(err.Error(), text) {
		t.Errorf("error %q, want one of --%s that contains %q", err, flag, text)
	}
	if flagErr.Problem == "" || flagErr.Remedy == "" || strings.ContainsAny(err.Error(), "\r\n") {
		t.Errorf("error %q is not one line with a problem and a remedy", err)
	}
}

// file returns the path of a new file.
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
