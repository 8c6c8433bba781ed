package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

const testProvider = "//iam.googleapis.com/projects/998877665544/locations/global/workloadIdentityPools/on-prem/providers/cluster-1"

// testMembership is the cluster's membership of the project's fleet.
const testMembership = "https://gkehub.googleapis.com/projects/prod-project/locations/global/memberships/on-prem"

// parse sets the settings of a command from a command line.
func parse(t *testing.T, s Settings, args ...string) {
	t.Helper()
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	for _, group := range s.Flags() {
		set.AddFlagSet(group.FlagSet)
	}
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
}

// federation returns valid settings.
func federation(t *testing.T) *Serve {
	s := &Serve{}
	parse(t, s, "--node-name=node-1", "--project-id=prod-project", "--cluster-location=europe-west1", "--workload-identity-provider="+testProvider)
	return s
}

func impersonation(t *testing.T) *Serve {
	s := federation(t)
	s.Credentials.Kind, s.Provider.Name, s.Project.Number = Impersonation, "", "998877665544"
	return s
}

func fakeCredentials(t *testing.T) *Serve {
	s := federation(t)
	s.Credentials.Kind, s.Provider.Name, s.Project.ID = Fake, "", ""
	return s
}

// standalone returns valid settings.
func standalone(t *testing.T) *Standalone {
	s := &Standalone{}
	parse(t, s)
	return s
}

// checkFlagError fails the test unless err is a FlagError of the flag, in one line, with
// the fragment.
func checkFlagError(t *testing.T, err error, flag, fragment string) {
	t.Helper()
	var flagError *FlagError
	if !errors.As(err, &flagError) {
		t.Fatalf("error %v, want one of --%s", err, flag)
	}
	if flagError.Flag != flag || !strings.Contains(err.Error(), fragment) {
		t.Errorf("error %q, want one of --%s that contains %q", err, flag, fragment)
	}
	if flagError.Problem == "" || flagError.Remedy == "" || strings.ContainsAny(err.Error(), "\r\n") {
		t.Errorf("error %q is not one line with a problem and a remedy", err)
	}
}

// writeFile returns the path of a new file.
func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
