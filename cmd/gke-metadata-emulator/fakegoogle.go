package main

import (
	"time"

	"github.com/spf13/cobra"

	"gke-metadata-emulator/internal/daemon"
)

func newFakeGoogle(env lookupEnv) *cobra.Command {
	f := &daemon.FakeGoogle{}
	fake := newGroup("The fake")
	fake.StringVar(&f.Listen, "listen", "127.0.0.1:8988", "`IP:PORT` of all its endpoints")
	fake.StringVar(&f.State, "state", "", "`file` of providers, service accounts, bindings and users")
	fake.BoolVar(&f.AllowAll, "allow-all", false, "let every principal use every service account")
	fake.DurationVar(&f.TokenLife, "token-life", time.Hour, "life of the tokens that it gives")
	return command(&cobra.Command{
		Use:   "fakegoogle",
		Short: "Serve an offline Google: STS, IAM, IAM Credentials, OAuth 2.0",
		Long:  "Serve an offline Google that checks what the real one does: signatures, audiences,\nexpiry, scopes and IAM bindings. Its tokens are worth nothing elsewhere.",
	}, env, f, func(c *cobra.Command) error { return f.Run(c.Context(), c.ErrOrStderr()) }, fake, logFlags(&f.Logging))
}
