package clients

import (
	"fmt"
	"slices"
	"strings"
)

// conversation is a long-running program of this folder that executes commands: a client
// library at work.
type conversation struct {
	*session
	process *process
	offers  []string // commands, beside upload
}

// converse returns how to open a client whose program has these commands.
func converse(offers ...string) func(*session, installed) (worker, error) {
	return func(s *session, i installed) (worker, error) {
		p, err := s.start(s.t, s.env, i.program...)
		return &conversation{s, p, offers}, err
	}
}

// doing is what a conversation does, for the table.
func doing(offers ...string) string {
	words := map[string]string{
		"project": "project ID", "zone": "zone", "email": "e-mail", "access": "access token", "id": "ID token",
		"access-oauth2": "access token by golang.org/x/oauth2",
	}
	var did []string
	for _, command := range offers {
		did = append(did, words[command])
	}
	return strings.Join(did, ", ") + "; upload, read back; renewal in one process"
}

func (c *conversation) work() error {
	for _, command := range c.offers {
		var arguments []string
		if command == "id" {
			arguments = []string{audience}
		}
		value, err := c.process.ask(slices.Concat([]string{command}, arguments)...)
		if err == nil {
			err = c.check(command, value)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
	}
	return c.write("wine.txt")
}

func (c *conversation) check(command, value string) error {
	want := ""
	switch command {
	case "access", "access-oauth2":
		return c.checkAccess(value)
	case "id":
		return c.checkID(value)
	case "project":
		want = projectID
	case "zone":
		want = zone
	case "email":
		want = c.server.gsa
	default:
		return fmt.Errorf("there is no check of it")
	}
	if value != want {
		return fmt.Errorf("%q, want %q", value, want)
	}
	return nil
}

func (c *conversation) write(name string) error {
	content, err := c.process.ask("upload", bucket, name)
	if err == nil && content != "content of "+name {
		err = fmt.Errorf("%s: read %q", name, content)
	}
	return err
}
