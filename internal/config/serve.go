package config

import (
	"github.com/spf13/pflag"

	"gke-metadata-emulator/internal/principal"
)

// Serve is the settings of the daemon of a node.
type Serve struct {
	Node         Node
	Kubernetes   Kubernetes
	Listen       Listen
	Routing      Routing
	Attestation  Attestation
	StartupTaint StartupTaint
	DMI          DMI
	Pods         Pods
	Tracing      Tracing

	Credentials Credentials
	Provider    Provider
	Policy      Policy
	Audit       Audit
	Handover    Handover

	Project Project
	Google  Google
	Logging Logging
}

// NewServe returns the defaults of the flags.
func NewServe() *Serve {
	s := &Serve{}
	s.Flags()
	return s
}

func serveCredentials() []string { return []string{Federation, Impersonation, Fake} }

// Flags implements [Settings].
func (s *Serve) Flags() []Group {
	return []Group{
		newGroup("The node", s.Node.flags, s.Kubernetes.flags, func(f *pflag.FlagSet) {
			s.Listen.flags(f, metadataListen(), "`IP:PORT` that pods connect to")
		}, s.Routing.flags, s.Attestation.flags, s.StartupTaint.flags, s.DMI.flags, s.Pods.flags, s.Tracing.flags),
		newGroup("Credentials", func(f *pflag.FlagSet) { s.Credentials.flags(f, serveCredentials()) },
			s.Provider.flags, s.Policy.flags, s.Audit.flags, s.Handover.flags),
		newGroup("Metadata", s.Project.flags),
		newGroup("Google's endpoints", s.Google.flags),
		s.Logging.group(),
	}
}

// Complete implements [Settings].
func (s *Serve) Complete() error {
	return firstError(
		func() error { return s.Credentials.check(serveCredentials()) },
		s.Node.check,
		func() error { return s.Provider.complete(s.Credentials.Kind) },
		func() error { return s.Policy.complete(s.Credentials.Kind) },
		func() error { return s.Provider.checkFleet(&s.Project) },
		func() error { return s.Project.complete(s.Credentials.Kind, s.Provider.projectNumber()) },
		func() error { return s.Provider.completePool(s.Project.Number) },
		func() error { return s.Google.complete(s.Credentials.Kind, Federation, s.Project.UniverseDomain) },
		func() error { return s.Listen.check(metadataListen()) },
		func() error { return s.Routing.complete(s.Listen.Address) },
		s.Attestation.complete,
		s.Pods.check,
		s.StartupTaint.check,
		s.DMI.complete,
		s.Tracing.check,
		func() error { return s.Handover.check(s.Credentials.Kind) },
		s.Logging.check,
	)
}

// Names returns the names of the cluster's KSAs in IAM policies.
func (s *Serve) Names() principal.Names {
	return principal.Names{GKEPool: s.Project.WorkloadPool, ProjectNumber: s.Project.Number, Pool: s.Provider.Pool}
}
