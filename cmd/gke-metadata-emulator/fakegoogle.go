package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/daemon"
	"gke-metadata-emulator/internal/httpserver"
	"gke-metadata-emulator/internal/logging"
)

func newFakeGoogle(env lookupEnv) *cobra.Command {
	f := &config.FakeGoogle{}
	return command(&cobra.Command{
		Use:   "fakegoogle",
		Short: "Serve an offline Google: STS, IAM, IAM Credentials, OAuth 2.0",
		Long:  "Serve an offline Google with the checks of the real one: signatures, audiences, expiry,\nscopes and IAM bindings. No other service accepts its tokens.",
	}, env, f, func(c *cobra.Command) error { return runFakeGoogle(c.Context(), f, c.ErrOrStderr()) })
}

// runFakeGoogle serves until ctx ends.
func runFakeGoogle(ctx context.Context, f *config.FakeGoogle, stderr io.Writer) error {
	log := logging.New(stderr, f.Logging.Level, f.Logging.Format)
	google := fakegoogle.New(fakegoogle.Options{AllowAll: f.AllowAll, TokenLifetime: f.TokenLife, Log: log})
	if f.State != "" {
		if err := loadState(google, f.State); err != nil {
			return config.FlagErrorf("state", "see docs/fakegoogle.md", "%s: %v", f.State, err)
		}
	}
	listener, err := daemon.Listen("listen", f.Listen)
	if err != nil {
		return err
	}
	log.Info("serving", "url", "http://"+listener.Addr().String())
	return httpserver.Run(ctx, "fake Google", listener, google)
}

// loadState applies a state file. Relative paths of key sets in it start from the
// file's folder.
func loadState(google *fakegoogle.Server, file string) error {
	document, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	state, err := fakegoogle.ParseState(document)
	if err != nil {
		return err
	}
	folder := filepath.Dir(file)
	for i := range state.Providers {
		if err := readKeys(&state.Providers[i].StateIssuer, folder); err != nil {
			return fmt.Errorf("providers[%d].jwksFile: %w", i, err)
		}
	}
	for i := range state.Memberships {
		if err := readKeys(&state.Memberships[i].StateIssuer, folder); err != nil {
			return fmt.Errorf("memberships[%d].jwksFile: %w", i, err)
		}
	}
	return google.Apply(state)
}

// readKeys replaces the path of a key set by the key set.
func readKeys(issuer *fakegoogle.StateIssuer, folder string) error {
	if issuer.JWKSFile == "" {
		return nil
	}
	path := issuer.JWKSFile
	if !filepath.IsAbs(path) {
		path = filepath.Join(folder, path)
	}
	keys, err := os.ReadFile(path)
	issuer.JWKS, issuer.JWKSFile = keys, ""
	return err
}
