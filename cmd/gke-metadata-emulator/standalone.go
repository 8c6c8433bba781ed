package main

import (
	"github.com/spf13/cobra"

	"gke-metadata-emulator/internal/daemon"
)

func newStandalone(env lookupEnv) *cobra.Command {
	s := &daemon.Standalone{}

	listen := newGroup("Listening")
	listen.StringVar(&s.Listen, "listen", "127.0.0.1:8080", "`IP:PORT` that clients connect to (GCE_METADATA_HOST); only loopback and private sources are answered")
	listen.StringVar(&s.AdminListen, "admin-listen", "127.0.0.1:8989", "`IP:PORT` of health, readiness and metrics")

	who := newGroup("Identities")
	who.StringVar(&s.Identities, "identities", "", "`file` that lists identities by caller's address (one for all callers where empty)")
	who.StringVar(&s.Namespace, "namespace", "default", "namespace of the one identity")
	who.StringVar(&s.KSA, "service-account", "default", "Kubernetes service account of the one identity")
	who.StringVar(&s.GSA, "gsa", "", "`e-mail` address of its Google service account (demo@PROJECT_ID.iam.gserviceaccount.com with --credentials=fake where empty)")

	credentials := newGroup("Credentials")
	credentials.StringVar(&s.Credentials, "credentials", daemon.Fake, "fake (a built-in offline Google) or impersonation (by one credential of yours)")
	credentials.StringVar(&s.SourceCredentials, "source-credentials", "", "`file` of the credential for impersonation: any that Google's libraries take (Application Default Credentials where empty)")

	return command(&cobra.Command{
		Use:   "standalone",
		Short: "Serve the processes and containers of one machine, without a cluster",
		Long:  "Serve the metadata of GKE's metadata server to the processes and containers of one\nmachine. It needs no cluster, and with the built-in fake no Google account.",
	}, env, s, func(c *cobra.Command) error { return s.Run(c.Context(), c.ErrOrStderr()) },
		listen, who, credentials, projectFlags(&s.Project, "required, but with --credentials=fake"), googleFlags(&s.Google, ""), logFlags(&s.Logging))
}
