package config

import (
	"regexp"
	"strings"

	"github.com/spf13/pflag"

	"gke-metadata-emulator/internal/principal"
)

const standaloneListen = "127.0.0.1:8080"

// Standalone is the settings of the metadata server for one machine without a cluster.
type Standalone struct {
	Listen      Listen
	AllowHost   string // names, separated by commas
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
			f.StringVar(&s.AllowHost, "allow-host", "", "further `names` by which clients address the server, separated by commas, like Docker's CONTAINER.NETWORK (default: IP addresses, names without a dot, and names that public DNS cannot have), see docs/standalone.md")
			setPattern(f, "allow-host", hostNames)
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
		s.checkAllowHost,
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

// hostNames is the form of names with commas between them, also of those with an
// underscore, like Docker's.
var hostNames = regexp.MustCompile(`^[A-Za-z0-9_.-]+(,[A-Za-z0-9_.-]+)*$`)

func (s *Standalone) checkAllowHost() error {
	if s.AllowHost != "" && !hostNames.MatchString(s.AllowHost) {
		return FlagErrorf("allow-host", "give names like mds.example.com,mds.my_network, without ports", "%q is not a list of names of hosts, separated by commas", s.AllowHost)
	}
	return nil
}

// AllowedHosts returns the names of --allow-host in lower case, without a dot at the end.
func (s *Standalone) AllowedHosts() []string {
	hosts := splitCommas(strings.ToLower(s.AllowHost))
	for i := range hosts {
		hosts[i] = strings.TrimSuffix(hosts[i], ".")
	}
	return hosts
}
