package daemon

import (
	"context"
	"io"
	"log/slog"
	"os"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/dmi"
	"gke-metadata-emulator/internal/facts"
	"gke-metadata-emulator/internal/fakepool"
	"gke-metadata-emulator/internal/gc"
	"gke-metadata-emulator/internal/podevents"
	"gke-metadata-emulator/internal/prefetch"
	"gke-metadata-emulator/internal/startuptaint"
	"gke-metadata-emulator/routing"
	"gke-metadata-emulator/server"
	"gke-metadata-emulator/tokens"
)

// Run is the daemon of a node, until ctx ends. The settings have been completed.
// Logs go to stderr.
func (s *Serve) Run(ctx context.Context, stderr io.Writer) error {
	p := newProgram(ctx, s.Logging, stderr)
	defer p.close()

	// Files are read first, so that mistakes in them are reported before anything starts.
	options, err := s.engineOptions(p)
	if err != nil {
		return err
	}
	handoverFile, err := s.openHandover()
	if err != nil {
		return err
	}
	api, err := newClients(s.Kubeconfig)
	if err != nil {
		return err
	}
	p.onClose(api.close)
	attested, err := s.attestation(p.registry, p.log)
	if err != nil {
		return err
	}
	p.onClose(func() { _ = attested.close() })
	pods, err := identity.NewKubernetes(identity.KubernetesOptions{
		Node: s.NodeName, Pods: api.watching, Metadata: api.metadata, Log: p.log, Metrics: p.registry,
	})
	if err != nil {
		return err
	}
	s.overrideProductName(p.log)
	listeners, err := s.startRouting(p, attested)
	if err != nil {
		return err
	}
	engine, err := s.startEngine(p, options, api)
	if err != nil {
		return err
	}
	s.keepHandover(p, handoverFile, engine)
	s.watchRules(p, engine)
	p.run(func(ctx context.Context) error { engine.Follow(ctx, pods); return nil })
	identities, source, err := s.notifyPods(p, api, pods, engine)
	if err != nil {
		return err
	}
	p.run(pods.Run)
	s.startPrefetch(p, pods, source, engine)
	facts := facts.New(s.factsOptions(p, api))
	p.run(facts.Run)
	listeners.serve(p, server.New(server.Options{
		Identity: identities, Tokens: source, Facts: facts.Get, FactsChanged: facts.Changed, IdentityWait: s.IdentityWait, Log: p.log, Metrics: p.registry,
	}), facts.Get().InstanceID, pods.Ready, s.Listening)
	s.removeStartupTaint(p, api, listeners.callers.Addr().String(), pods.Ready)
	// Not earlier: starting needs less memory than the floor, and it would stay on the heap.
	p.onClose(gc.HoldFloor(gc.DefaultFloor, os.LookupEnv))
	p.log.Info("serving", "node", s.NodeName, "listen", listeners.callers.Addr().String(), "admin", listeners.admin.Addr().String(), "credentials", s.Credentials, "routing", listeners.routing)
	return p.wait()
}

// startRouting opens the listeners and brings packets for the metadata address there.
func (s *Serve) startRouting(p *program, attested *attestation) (*listeners, error) {
	routes := routing.Options{Interface: s.Interface, BPFFS: s.BPFFS, Kubepods: attested.kubepods(), Repaired: routing.NewRepaired(p.registry), Log: p.log}
	mode, reason, err := s.chooseRouting(routes)
	if err != nil {
		return nil, err
	}
	p.log.Info("routing", "mode", mode, "why", reason)
	newModes(p.registry).WithLabelValues(mode, attested.mode).Set(1)
	listeners, router, err := s.openRouted(routes, mode, attested)
	if err != nil {
		return nil, err
	}
	p.onClose(listeners.close)
	listeners.routing = mode
	if kept, ok := router.(keeper); ok {
		p.run(kept.Keep)
	}
	return listeners, nil
}

// overrideProductName shows Google's DMI product name to new containers.
func (s *Serve) overrideProductName(log *slog.Logger) {
	if s.DMIProductName != "" {
		dmi.ProductName{File: s.DMIProductName, OriginalFile: s.DMIOriginal, Log: log}.Override()
	}
}

// startEngine makes the token engine, with the built-in fake Google or the audit log if
// the settings ask for them.
func (s *Serve) startEngine(p *program, o *engineOptions, api *clients) (*tokens.Engine, error) {
	if s.Credentials == Fake {
		google := newFake(p.log)
		url, err := p.startFake(s.FakeListen, google)
		if err != nil {
			return nil, err
		}
		o.useFake(url)
		p.run(func(ctx context.Context) error {
			fakepool.TrustCluster(ctx, google, s.Provider, api.requests, p.log)
			return nil
		})
	}
	o.setSubjects(tokens.ClusterTokens{Accounts: api.requests, Node: s.NodeName})
	var err error
	if o.Audit, err = s.startAuditLog(p); err != nil {
		return nil, err
	}
	engine, err := tokens.New(o.Options)
	if err != nil {
		return nil, err
	}
	p.onClose(engine.Close)
	return engine, nil
}

// newFake is a Google that lets every KSA use every GSA.
func newFake(log *slog.Logger) *fakegoogle.Server {
	return fakegoogle.New(fakegoogle.Options{AllowAll: true, Log: log})
}

// notifyPods decorates the sources of identities and tokens with --events.
func (s *Serve) notifyPods(p *program, api *clients, identities server.Identity, source tokens.Source) (server.Identity, tokens.Source, error) {
	if !s.Events {
		return identities, source, nil
	}
	notifier, err := podevents.New(podevents.Options{Client: api.events, Node: s.NodeName, Metrics: p.registry, Log: p.log})
	if err != nil {
		return nil, nil, err
	}
	p.run(notifier.Run)
	return notifier.Identity(identities), notifier.Tokens(source), nil
}

// startPrefetch mints tokens of pods before they ask, with --prefetch.
func (s *Serve) startPrefetch(p *program, pods *identity.Kubernetes, source tokens.Source, engine *tokens.Engine) {
	if !s.Prefetch {
		return
	}
	p.run(prefetch.New(prefetch.Options{
		Identity: pods, Tokens: source, Usage: engine, Log: p.log, Metrics: p.registry,
		// gcloud and shells request the first, most of Google's libraries the second.
		Scopes: []tokens.Scopes{tokens.DefaultScopes(), tokens.NewScopes(tokens.CloudPlatform)},
	}).Run)
}

func (s *Serve) factsOptions(p *program, api *clients) facts.Options {
	o := s.Project.factsOptions(p, s.NodeName)
	o.Cluster, o.ZoneFromNode = api.requests, !s.zoneGiven
	return o
}

// removeStartupTaint removes the taint of --startup-taint once the daemon serves.
func (s *Serve) removeStartupTaint(p *program, api *clients, address string, ready func() error) {
	if s.StartupTaint == "" {
		return
	}
	p.run(startuptaint.New(startuptaint.Options{
		Key: s.StartupTaint, Node: s.NodeName, Client: api.requests, Ready: ready, Address: address, Metrics: p.registry, Log: p.log,
	}).Run)
}
