package config

import (
	"github.com/spf13/pflag"

	"gke-metadata-emulator/internal/principal"
)

const standaloneListen = "127.0.0.1:8080"

// Standalone is the settings of the metadata server for one machine without a cluster.
type Standalone struct {
	Listen      Listen
	Identities  Identities
	Credentials Credentials
	Project     Project
	Google      Google
	Logging     Logging
}

// NewStandalone returns the defaults of the flags.
func NewStandalone() *Standalone {
	s := &Standalone{}
	s.Flags()
	return s
}

func standaloneCredentials() []string { return []string{Fake, Impersonation} }

// Flags implements [Settings].
func (s *Standalone) Flags() []Group {
	return []Group{
		newGroup("Listening", func(f *pflag.FlagSet) {
			s.Listen.flags(f, standaloneListen, "`IP:PORT` that clients connect to (GCE_METADATA_HOST); only loopback and private source addresses are answered")
		}),
		newGroup("Identities", s.Identities.flags),
		newGroup("Credentials", func(f *pflag.FlagSet) { s.Credentials.flags(f, standaloneCredentials()) }),
		newGroup("Metadata", s.Project.flags),
		newGroup("Google's endpoints", s.Google.flags),
		s.Logging.group(),
	}
}

// Complete implements [Settings].
func (s *Standalone) Complete() error {
	return firstError(
		func() error { return s.Credentials.check(standaloneCredentials()) },
		func() error { return s.Project.complete(s.Credentials.Kind, "") },
		func() error { return s.Google.complete(s.Credentials.Kind, Impersonation, s.Project.UniverseDomain) },
		func() error { return s.Listen.check(standaloneListen) },
		s.Logging.check,
		func() error { return s.Identities.complete(s.Credentials.Kind, s.Project.ID) },
	)
}

// Names returns the names of the KSAs in IAM policies.
func (s *Standalone) Names() principal.Names {
	names := principal.Names{GKEPool: s.Project.WorkloadPool, ProjectNumber: s.Project.Number}
	if s.Credentials.Kind == Fake {
		names.Pool = FakePool
	}
	return names
}
