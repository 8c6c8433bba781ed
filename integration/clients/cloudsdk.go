package clients

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// gcloud is the one of this machine.
func gcloud() client {
	return client{
		name: "gcloud", does: "auth list, print-access-token, print-identity-token; config get project; storage cp, cat", anyVersion: true,
		install: cloudSDK("gcloud"),
		open: func(s *session, i installed) (worker, error) {
			run := func(args ...string) []string { return append(append(i.program, "--quiet"), args...) }
			return &commands{s, func(s *session) error { return gcloudWork(s, run) }, func(s *session, name string) error {
				return copies(s, name,
					func(file, name string) []string { return run("storage", "cp", file, "gs://"+bucket+"/"+name) },
					func(name string) []string { return run("storage", "cat", "gs://"+bucket+"/"+name) })
			}}, nil
		},
	}
}

func gcloudWork(s *session, run func(...string) []string) error {
	equals := func(want string) func(string) error {
		return func(got string) error {
			if got != want {
				return fmt.Errorf("%q, want %q", got, want)
			}
			return nil
		}
	}
	for _, step := range []struct {
		args  string
		check func(string) error
	}{
		{"auth list --filter=status:ACTIVE --format=value(account)", equals(s.server.gsa)},
		{"auth print-access-token", s.checkAccess},
		{"auth print-identity-token --audiences=" + audience, s.checkID},
		{"config get core/project", equals(projectID)},
	} {
		got, err := s.do(run(strings.Fields(step.args)...)...)
		if err == nil {
			err = step.check(got)
		}
		if err != nil {
			return fmt.Errorf("gcloud %s: %w", step.args, err)
		}
	}
	return nil
}

// gsutil is this machine's gsutil, which is part of gcloud.
func gsutil() client {
	return client{
		name: "gsutil", does: "cp, cat", anyVersion: true, install: cloudSDK("gsutil"),
		open: func(s *session, i installed) (worker, error) {
			run := func(args ...string) []string {
				return append(append(i.program, "-q", "-o", "Boto:ca_certificates_file="+s.file("ca.pem")), args...)
			}
			return &commands{session: s, wrote: func(s *session, name string) error {
				return copies(s, name,
					func(file, name string) []string { return run("cp", file, "gs://"+bucket+"/"+name) },
					func(name string) []string { return run("cat", "gs://"+bucket+"/"+name) })
			}}, nil
		},
	}
}

// cloudSDK finds a program of the Google Cloud CLI, which has the machine's path:
// it needs a Python and its own parts.
func cloudSDK(program string) func(testing.TB) installed {
	return func(t testing.TB) installed {
		path := onPath(t, program)
		version, _, _ := strings.Cut(toolchain(t, program, "version"), "\n")
		return installed{version: version, program: []string{path}, path: os.Getenv("PATH")}
	}
}
