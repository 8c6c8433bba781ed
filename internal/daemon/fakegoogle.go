package daemon

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"gke-metadata-emulator/fakegoogle"
)

// FakeGoogle is the settings of [FakeGoogle.Run]: the offline Google by itself.
type FakeGoogle struct {
	Logging

	Listen    string
	State     string // a file
	AllowAll  bool
	TokenLife time.Duration
}

// Complete returns a [*FlagError] for the first setting that is wrong.
func (f *FakeGoogle) Complete() error {
	if err := hostPort("listen", f.Listen); err != nil {
		return err
	}
	if f.TokenLife <= 0 || f.TokenLife > time.Hour {
		return wrong("token-life", "use 1h or less", "%s is not between 0 and 1h", f.TokenLife)
	}
	return f.check()
}

// Run serves until ctx ends. The settings have been completed. Logs go to stderr.
func (f *FakeGoogle) Run(ctx context.Context, stderr io.Writer) error {
	log := f.logger(stderr)
	google := fakegoogle.New(fakegoogle.Options{AllowAll: f.AllowAll, TokenLifetime: f.TokenLife, Log: log})
	if f.State != "" {
		if err := f.load(google); err != nil {
			return wrong("state", "see docs/fakegoogle.md", "%s: %v", f.State, err)
		}
	}
	listener, err := listen("listen", f.Listen)
	if err != nil {
		return err
	}
	g := newGroup(ctx)
	g.serveHTTP("fake Google", listener, google)
	log.Info("serving", "url", "http://"+listener.Addr().String())
	return g.Wait()
}

// load reads the state and the key sets that it names, which are beside it.
func (f *FakeGoogle) load(google *fakegoogle.Server) error {
	document, err := os.ReadFile(f.State)
	if err != nil {
		return err
	}
	state, err := fakegoogle.ParseState(document)
	if err != nil {
		return err
	}
	for i := range state.Providers {
		p := &state.Providers[i]
		if p.JWKSFile == "" {
			continue
		}
		path := p.JWKSFile
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(f.State), path)
		}
		if p.JWKS, err = os.ReadFile(path); err != nil {
			return fmt.Errorf("providers[%d].jwksFile: %w", i, err)
		}
		p.JWKSFile = ""
	}
	return google.Apply(state)
}
