package daemon

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
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
	// Parts are the zero value in the program itself.
	Parts Parts

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
	if s.Parts.Identity != nil {
		return nil
	}
	if s.Identities == "" {
		if s.GSA == "" {
			if s.Credentials != Fake {
				return wrong("gsa", "give the e-mail address of the Google service account to be, or a list in --identities", "is needed with --credentials=%s", s.Credentials)
			}
			s.GSA = "demo@" + s.dotted() + ".iam.gserviceaccount.com"
		}
		list, err := identity.SingleIdentity(s.Namespace, s.KSA, s.GSA)
		if err != nil {
			return wrong("gsa", "give one like NAME@PROJECT_ID.iam.gserviceaccount.com", "%v", err)
		}
		s.list = list
		return nil
	}
	if s.GSA != "" {
		return wrong("gsa", "write it into the file", "contradicts --identities")
	}
	document, err := readFile("identities", s.Identities)
	if err != nil {
		return err
	}
	if s.list, err = identity.ParseStatic(document); err != nil {
		return wrong("identities", "see docs/standalone.md", "%s: %v", s.Identities, err)
	}
	return nil
}

// Run serves until ctx ends. The settings have been completed. Logs go to stderr.
func (s *Standalone) Run(ctx context.Context, stderr io.Writer) error {
	log := s.logger(stderr)
	registry := newRegistry()
	engine := &engineOptions{tokens.Options{
		WorkloadPool: s.WorkloadPool, IAMCredentialsEndpoint: s.IAMCredentials, IAMEndpoint: s.IAM,
		HTTPClient: upstreamClient(), Metrics: registry,
		Policy: tokens.AllowAll{}, // the operator's own list says who is who
	}}
	defer engine.HTTPClient.CloseIdleConnections()
	if s.Credentials == Impersonation {
		var err error
		if engine.SourceCredential, err = sourceCredential(s.SourceCredentials, engine.HTTPClient); err != nil {
			return err
		}
	}
	front, err := openFront(s.Listen, s.AdminListen)
	if err != nil {
		return err
	}
	defer front.close()

	g := newGroup(ctx)
	if s.Credentials == Fake {
		google, url, err := s.Parts.startFake(g, s.FakeListen, log)
		if err != nil {
			return g.abandon(err)
		}
		issuer, err := trustLocalIssuer(google)
		if err != nil {
			return g.abandon(err)
		}
		engine.Federation = &tokens.Federation{Provider: fakeProvider}
		engine.federate(url)
		engine.subjects(issuer)
		log.Info("the built-in fake Google is used: its tokens are worth nothing elsewhere", "url", url)
	}
	source, err := tokens.New(engine.Options)
	if err != nil {
		return g.abandon(err)
	}
	defer source.Close()
	facts := s.facts(standaloneNode)
	facts.now.ClusterUID = "00000000-0000-0000-0000-000000000000"
	facts.now.Zone, facts.now.Hostname = s.Zone, s.hostname(standaloneNode, s.Zone)
	metadataServer := server.New(server.Options{
		Identity: s.Parts.identity(s.list), Tokens: s.Parts.tokens(source), Log: log, Metrics: registry, AllowSource: nearby, AllowHost: unroutable,
		Facts: facts.get, FactsChanged: facts.changed.Next,
	})
	s.reloadAttributes(g, facts, registry, log)
	front.serve(g, metadataServer, registry, facts.get().InstanceID, func() error { return nil }, s.Listening)
	log.Info("serving", "listen", front.callers.Addr().String(), "admin", front.admin.Addr().String(), "credentials", s.Credentials)
	return g.Wait()
}

// nearby is this machine and private networks, like those of containers. A
// developer's machine must not give its identity to a café.
func nearby(ip netip.Addr) bool { return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() }

// unroutable are names and addresses that nobody else's web page can have. A page of
// evil.example can have its own name resolved to this machine (DNS rebinding), but
// then its requests name evil.example.
func unroutable(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return !strings.Contains(host, ".") || strings.HasSuffix(host, ".internal") || strings.HasSuffix(host, ".localhost")
}

// trustLocalIssuer makes an issuer of KSA tokens that the fake accepts.
func trustLocalIssuer(google *fakegoogle.Server) (*tokens.LocalIssuer, error) {
	issuer, err := tokens.NewLocalIssuer("https://standalone.gke-metadata-emulator.local", time.Now)
	if err != nil {
		return nil, err
	}
	keys, err := issuer.JWKS()
	if err != nil {
		return nil, err
	}
	return issuer, google.AddProvider(fakegoogle.Provider{Name: fakeProvider, Issuer: issuer.Issuer(), JWKS: keys})
}
