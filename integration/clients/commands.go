package clients

import (
	"fmt"
	"testing"
)

// commands is a client that runs a separate process for each operation.
type commands struct {
	*session
	worked func(s *session) error // everything except writing; nil if the client does nothing else
	wrote  func(s *session, name string) error
}

func (c *commands) work() error {
	if c.worked != nil {
		if err := c.worked(c.session); err != nil {
			return err
		}
	}
	return c.write("wine.txt")
}

func (c *commands) write(name string) error { return c.wrote(c.session, name) }

// copies is the write of a client that copies files to objects, and prints them.
func copies(s *session, name string, put func(file, name string) []string, get func(name string) []string) error {
	content := "content of " + name
	s.writeFile(s.t, name, content)
	if _, err := s.do(put(s.file(name), name)...); err != nil {
		return err
	}
	got, err := s.do(get(name)...)
	if err == nil && got != content {
		err = fmt.Errorf("%s: read %q", name, got)
	}
	return err
}

// rclone is one of the programs that use Google's Go libraries.
func rclone() client {
	return client{
		name: "rclone", sometimes: goProbe, does: "copyto, cat",
		install: func(t testing.TB) installed {
			return installed{
				version: locked(t, "tools/rclone/go.mod", `\tgithub\.com/rclone/(rclone) (v\S+)`),
				program: []string{goProgram(t, "rclone", "tools/rclone", "github.com/rclone/rclone")},
			}
		},
		open: func(s *session, i installed) (worker, error) {
			const remote = ":gcs,env_auth=true,bucket_policy_only=true:" + bucket + "/"
			return &commands{session: s, wrote: func(s *session, name string) error {
				return copies(s, name,
					func(file, name string) []string { return append(i.program, "copyto", file, remote+name) },
					func(name string) []string { return append(i.program, "cat", remote+name) })
			}}, nil
		},
	}
}
