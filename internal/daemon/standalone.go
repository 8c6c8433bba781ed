package daemon

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/facts"
	"gke-metadata-emulator/internal/fakepool"
	"gke-metadata-emulator/internal/principal"
	"gke-metadata-emulator/server"
	"gke-metadata-emulator/tokens"
)

const standaloneNode = "standalone"

// Overrides replace components of [Standalone] for a program that embeds it, such
// as a test. Fields that are nil replace nothing.
type Overrides struct {
	Identity server.Identity                   // replaces the list of identities
	Google   *fakegoogle.Server                // replaces the fake that allows everything
	Tokens   func(tokens.Source) tokens.Source // decorates the source of tokens
}

func (o Overrides) identity(settings config.Identities) (server.Identity, error) {
	if o.Identity != nil {
		return o.Identity, nil
	}
	return settings.Read()
}

func (o Overrides) tokens(source tokens.Source) tokens.Source {
	if o.Tokens != nil {
		return o.Tokens(source)
	}
	return source
}

func (o Overrides) google(log *slog.Logger) *fakegoogle.Server {
	if o.Google != nil {
		return o.Google
	}
	return newFake(log)
}

// FakeMember is the name of a KSA of the standalone server in an IAM policy of the
// built-in fake.
func FakeMember(namespace, name string) string {
	return principal.Names{Pool: config.FakePool}.Member(identity.ServiceAccount{Namespace: namespace, Name: name})
}

// standalone is the settings of the metadata server without a cluster.
type standalone struct {
	*config.Standalone
	overrides Overrides
}

// Standalone runs the metadata server for the processes and containers of one machine
// until ctx ends. The settings have been completed. Logs go to stderr.
func Standalone(ctx context.Context, settings *config.Standalone, overrides Overrides, stderr io.Writer, listening Listening) error {
	s := standalone{settings, overrides}
	p := newProgram(ctx, s.Logging, stderr)
	defer p.close()

	identities, err := s.overrides.identity(s.Identities)
	if err != nil {
		return err
	}
	attributes, err := s.Project.ReadAttributes()
	if err != nil {
		return err
	}
	options := &engineOptions{Options: tokens.Options{
		Names: s.Names(), IAMCredentialsEndpoint: s.Google.IAMCredentials, IAMEndpoint: s.Google.IAM,
		HTTPClient: p.upstreamClient(), Log: p.log, Metrics: p.registry,
		Policy: tokens.AllowAll{}, // the operator's own list assigns the accounts
	}}
	if s.Credentials.Kind == config.Impersonation {
		if err := options.readSource(s.Credentials); err != nil {
			return err
		}
		options.SourceFile = options.source.Path
	}
	listeners, err := openListeners(s.Listen)
	if err != nil {
		return err
	}
	p.onClose(listeners.close)
	engine, err := s.startEngine(p, options)
	if err != nil {
		return err
	}
	options.watchSource(p, engine)
	facts := facts.New(s.factsOptions(p, attributes))
	p.run(facts.Run)
	listeners.serve(p, server.New(server.Options{
		Identity: identities, Tokens: s.overrides.tokens(withoutCluster{engine}), Log: p.log, Metrics: p.registry, AllowSource: nearby, CheckHost: hostGuard{s.AllowedHosts()}.check,
		Facts: facts.Get, FactsChanged: facts.Changed,
	}), facts.Get().InstanceID, func() error { return nil }, listening)
	p.log.Info("serving", "listen", listeners.callers.Addr().String(), "admin", listeners.admin.Addr().String(), "credentials", s.Credentials.Kind)
	return p.wait()
}

// startEngine makes the token engine, with the built-in fake Google if the settings ask
// for it.
func (s standalone) startEngine(p *program, o *engineOptions) (*tokens.Engine, error) {
	if s.Credentials.Kind == config.Fake {
		google := s.overrides.google(p.log)
		url, err := p.startFake(s.Google.FakeListen, google)
		if err != nil {
			return nil, err
		}
		issuer, err := fakepool.TrustLocalIssuer(google, config.FakeProvider)
		if err != nil {
			return nil, err
		}
		o.federate(config.Provider{Name: config.FakeProvider}, "")
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

func (s standalone) factsOptions(p *program, attributes facts.Attributes) facts.Options {
	o := factsOptions(s.Project, attributes, p, standaloneNode)
	o.ClusterUID = cmp.Or(o.ClusterUID, facts.ClusterUID("00000000-0000-0000-0000-000000000000"))
	return o
}

// withoutCluster adds to GKE's text for a KSA without a GSA where a machine without a
// cluster names the GSA.
type withoutCluster struct{ tokens.Source }

const linkRemedy = "\nWithout a cluster, the account is named by --gsa, or by gsa in the file of --identities."

func (s withoutCluster) AccessToken(ctx context.Context, w identity.Workload, scopes tokens.Scopes) (tokens.Token, error) {
	token, err := s.Source.AccessToken(ctx, w, scopes)
	return token, withLinkRemedy(err)
}

func (s withoutCluster) IDToken(ctx context.Context, w identity.Workload, request tokens.IDTokenRequest) (tokens.Token, error) {
	token, err := s.Source.IDToken(ctx, w, request)
	return token, withLinkRemedy(err)
}

func withLinkRemedy(err error) error {
	var e *tokens.Error
	if !errors.As(err, &e) || e.Kind != tokens.NotLinked {
		return err
	}
	linked := *e // the error can be shared
	linked.Message += linkRemedy
	return &linked
}

// nearby reports whether an address is of this machine or of a private network, like
// those of containers: other guests of a public network must not get tokens.
func nearby(ip netip.Addr) bool { return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() }
