package daemon

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/facts"
	"gke-metadata-emulator/internal/fakepool"
	"gke-metadata-emulator/server"
	"gke-metadata-emulator/tokens"
)

// Standalone is the settings of [Standalone.Run]: the metadata server for the
// processes and containers of one machine, without a cluster.
type Standalone struct {
	Project
	Google
	Logging

	Listen      string
	AdminListen string

	Identities string // a file; the three below are one identity instead
	Namespace  string
	KSA        string
	GSA        string

	Credentials       string
	SourceCredentials string

	// Listening is told the addresses that clients and operators connect to, once
	// they can; nil where nobody wants to know.
	Listening func(clients, admin net.Addr)
	// Overrides have the zero value in the program itself.
	Overrides Overrides

	list *identity.Static
}

const standaloneNode = "standalone"

// Complete fills in what follows from other settings, and returns a [*FlagError]
// for the first that is wrong or contradicts another.
func (s *Standalone) Complete() error {
	if err := oneOf("credentials", s.Credentials, Fake, Impersonation); err != nil {
		return err
	}
	all := Serve{ // the rules that both share
		Project: s.Project, Google: s.Google, Logging: s.Logging, NodeName: standaloneNode,
		Listen: s.Listen, AdminListen: s.AdminListen, IdentityWait: time.Second, Routing: RoutingNone,
		Credentials: s.Credentials, SourceCredentials: s.SourceCredentials,
	}
	if err := all.Complete(); err != nil {
		return err
	}
	s.Project, s.Google = all.Project, all.Google
	return s.identities()
}

func (s *Standalone) identities() error {
	if s.Overrides.Identity != nil {
		return nil
	}
	if s.Identities == "" {
		if s.GSA == "" {
			if s.Credentials != Fake {
				return FlagErrorf("gsa", "give the e-mail address of the Google service account to be, or a list in --identities", "is needed with --credentials=%s", s.Credentials)
			}
			s.GSA = "demo@" + s.dotted() + ".iam.gserviceaccount.com"
		}
		list, err := identity.SingleIdentity(s.Namespace, s.KSA, s.GSA)
		if err != nil {
			return FlagErrorf("gsa", "give one like NAME@PROJECT_ID.iam.gserviceaccount.com", "%v", err)
		}
		s.list = list
		return nil
	}
	if s.GSA != "" {
		return FlagErrorf("gsa", "write it into the file", "contradicts --identities")
	}
	document, err := readFile("identities", s.Identities)
	if err != nil {
		return err
	}
	if s.list, err = identity.ParseStatic(document); err != nil {
		return FlagErrorf("identities", "see docs/standalone.md", "%s: %v", s.Identities, err)
	}
	return nil
}

// Run serves until ctx ends. The settings have been completed. Logs go to stderr.
func (s *Standalone) Run(ctx context.Context, stderr io.Writer) error {
	p := newProgram(ctx, s.Logging, stderr)
	defer p.close()

	options := &engineOptions{tokens.Options{
		WorkloadPool: s.WorkloadPool, IAMCredentialsEndpoint: s.IAMCredentials, IAMEndpoint: s.IAM,
		HTTPClient: p.upstreamClient(), Metrics: p.registry,
		Policy: tokens.AllowAll{}, // the operator's own list assigns the accounts
	}}
	if s.Credentials == Impersonation {
		var err error
		if options.SourceCredential, err = sourceCredential(s.SourceCredentials, options.HTTPClient); err != nil {
			return err
		}
	}
	listeners, err := openListeners(s.Listen, s.AdminListen)
	if err != nil {
		return err
	}
	p.onClose(listeners.close)
	engine, err := s.startEngine(p, options)
	if err != nil {
		return err
	}
	facts := facts.New(s.factsOptions(p))
	p.run(facts.Run)
	listeners.serve(p, server.New(server.Options{
		Identity: s.Overrides.identity(s.list), Tokens: s.Overrides.tokens(engine), Log: p.log, Metrics: p.registry, AllowSource: nearby, AllowHost: unroutable,
		Facts: facts.Get, FactsChanged: facts.Changed,
	}), facts.Get().InstanceID, func() error { return nil }, s.Listening)
	p.log.Info("serving", "listen", listeners.callers.Addr().String(), "admin", listeners.admin.Addr().String(), "credentials", s.Credentials)
	return p.wait()
}

// startEngine makes the token engine, with the built-in fake Google if the settings ask
// for it.
func (s *Standalone) startEngine(p *program, o *engineOptions) (*tokens.Engine, error) {
	if s.Credentials == Fake {
		google := s.Overrides.google(p.log)
		url, err := p.startFake(s.FakeListen, google)
		if err != nil {
			return nil, err
		}
		issuer, err := fakepool.TrustLocalIssuer(google, fakeProvider)
		if err != nil {
			return nil, err
		}
		o.Federation = &tokens.Federation{Provider: fakeProvider}
		o.useFake(url)
		o.setSubjects(issuer)
		p.log.Info("the built-in fake Google is used; no other service accepts its tokens", "url", url)
	}
	engine, err := tokens.New(o.Options)
	if err != nil {
		return nil, err
	}
	p.onClose(engine.Close)
	return engine, nil
}

func (s *Standalone) factsOptions(p *program) facts.Options {
	o := s.Project.factsOptions(p, standaloneNode)
	o.ClusterUID = "00000000-0000-0000-0000-000000000000"
	return o
}

// nearby reports whether an address is of this machine or of a private network, like
// those of containers: other guests of a public network must not get tokens.
func nearby(ip netip.Addr) bool { return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() }

// unroutable reports whether a host is one that no public web page can have. A page of
// evil.example can make its name resolve to this machine (DNS rebinding), but the
// browser's requests then have the host evil.example.
func unroutable(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return !strings.Contains(host, ".") || strings.HasSuffix(host, ".internal") || strings.HasSuffix(host, ".localhost")
}
