package daemon

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/dmi"
	"gke-metadata-emulator/internal/facts"
	"gke-metadata-emulator/internal/fakepool"
	"gke-metadata-emulator/internal/gc"
	"gke-metadata-emulator/internal/handover"
	"gke-metadata-emulator/internal/podevents"
	"gke-metadata-emulator/internal/prefetch"
	"gke-metadata-emulator/internal/principal"
	"gke-metadata-emulator/internal/startuptaint"
	"gke-metadata-emulator/routing"
	"gke-metadata-emulator/server"
	"gke-metadata-emulator/tokens"
)

// serve is the settings of the daemon of a node.
type serve struct{ *config.Serve }

// Serve runs the daemon of a node until ctx ends. The settings have been completed. Logs
// go to stderr.
func Serve(ctx context.Context, settings *config.Serve, stderr io.Writer, listening Listening) error {
	s := serve{settings}
	p := newProgram(ctx, s.Logging, stderr)
	defer p.close()

	// Files are read first, so that mistakes in them are reported before anything starts.
	options, err := s.engineOptions(p)
	if err != nil {
		return err
	}
	attributes, err := s.Project.ReadAttributes()
	if err != nil {
		return err
	}
	handoverFile, err := s.openHandover()
	if err != nil {
		return err
	}
	api, err := newClients(s.Kubernetes.Kubeconfig)
	if err != nil {
		return err
	}
	p.onClose(api.close)
	attested, err := s.attestation(p.registry, p.log)
	if err != nil {
		return err
	}
	p.onClose(func() { _ = attested.Close() })
	pods, err := identity.NewKubernetes(identity.KubernetesOptions{
		Node: s.Node.Name, Pods: api.watching, Metadata: api.metadata, Log: p.log, Metrics: p.registry,
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
	s.keepHandover(p, handoverFile, options.source, engine)
	s.watchRules(p, engine)
	options.watchSource(p, engine)
	p.run(func(ctx context.Context) error { engine.Follow(ctx, pods); return nil })
	identities, source, err := s.notifyPods(p, api, pods, engine)
	if err != nil {
		return err
	}
	p.run(pods.Run)
	s.startPrefetch(p, pods, source, engine)
	facts := facts.New(s.factsOptions(p, attributes, api))
	p.run(facts.Run)
	listeners.serve(p, server.New(server.Options{
		Identity: identities, Tokens: source, Facts: facts.Get, FactsChanged: facts.Changed, IdentityWait: s.Pods.IdentityWait, Log: p.log, Metrics: p.registry,
	}), facts.Get().InstanceID, pods.Ready, listening)
	s.removeStartupTaint(p, api, listeners.callers.Addr().String(), pods.Ready)
	// Not earlier: starting needs less memory than the floor, and it would stay on the heap.
	p.onClose(gc.HoldFloor(gc.DefaultFloor, os.LookupEnv))
	p.log.Info("serving", "node", s.Node.Name, "listen", listeners.callers.Addr().String(), "admin", listeners.admin.Addr().String(), "credentials", s.Credentials.Kind, "routing", listeners.routing)
	return p.wait()
}

// overrideProductName shows Google's DMI product name to new containers.
func (s serve) overrideProductName(log *slog.Logger) {
	if s.DMI.ProductName != "" {
		dmi.ProductName{File: s.DMI.ProductName, OriginalFile: s.DMI.Original, Log: log}.Override()
	}
}

// startEngine makes the token engine, with the built-in fake Google or the audit log if
// the settings ask for them.
func (s serve) startEngine(p *program, o *engineOptions, api *clients) (*tokens.Engine, error) {
	if s.Credentials.Kind == config.Fake {
		google := newFake(p.log)
		url, err := p.startFake(s.Google.FakeListen, google)
		if err != nil {
			return nil, err
		}
		o.useFake(url)
		p.run(func(ctx context.Context) error {
			fakepool.TrustCluster(ctx, google, s.Provider.Name, api.requests, p.log)
			return nil
		})
	}
	o.setSubjects(tokens.ClusterTokens{Accounts: api.requests, Node: s.Node.Name})
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
func (s serve) notifyPods(p *program, api *clients, identities server.Identity, source tokens.Source) (server.Identity, tokens.Source, error) {
	if !s.Pods.Events {
		return identities, source, nil
	}
	notifier, err := podevents.New(podevents.Options{Client: api.events, Node: s.Node.Name, Metrics: p.registry, Log: p.log})
	if err != nil {
		return nil, nil, err
	}
	p.run(notifier.Run)
	return notifier.Identity(identities), notifier.Tokens(source), nil
}

// startPrefetch mints tokens of pods before they ask, with --prefetch.
func (s serve) startPrefetch(p *program, pods *identity.Kubernetes, source tokens.Source, engine *tokens.Engine) {
	if !s.Pods.Prefetch {
		return
	}
	p.run(prefetch.New(prefetch.Options{
		Identity: pods, Tokens: source, Usage: engine, Refusals: engine, Log: p.log, Metrics: p.registry,
		// gcloud and shells request the first, most of Google's libraries the second.
		Scopes: []tokens.Scopes{tokens.DefaultScopes(), tokens.NewScopes(tokens.CloudPlatform)},
	}).Run)
}

func (s serve) factsOptions(p *program, attributes facts.Attributes, api *clients) facts.Options {
	o := factsOptions(s.Project, attributes, p, s.Node.Name)
	o.Cluster, o.ZoneFromNode = api.requests, s.Project.Zone == ""
	if s.Credentials.Kind != config.Fake { // the built-in fake plays the part of GKE
		o.Names = s.Names()
	}
	return o
}

// removeStartupTaint removes the taint of --startup-taint once the daemon serves.
func (s serve) removeStartupTaint(p *program, api *clients, address string, ready func() error) {
	if s.StartupTaint.Key == "" {
		return
	}
	p.run(startuptaint.New(startuptaint.Options{
		Key: s.StartupTaint.Key, Node: s.Node.Name, Client: api.requests, Ready: ready, Address: address, Metrics: p.registry, Log: p.log,
	}).Run)
}

// factsOptions returns the facts that follow from the settings.
func factsOptions(project config.Project, attributes facts.Attributes, p *program, node string) facts.Options {
	return facts.Options{
		ProjectID: project.ID, DottedProjectID: project.DottedID(), NumericProjectID: project.Number,
		Names: principal.Names{GKEPool: project.WorkloadPool, ProjectNumber: project.Number}, UniverseDomain: project.UniverseDomain,
		ClusterName: project.ClusterName, ClusterLocation: project.ClusterLocation, ClusterUID: project.ClusterUID, Node: node, Zone: cmp.Or(project.Zone, project.DefaultZone()),
		AttributesFile: project.AttributesFile, Attributes: attributes, Metrics: p.registry, Log: p.log,
	}
}

// Cleanup removes all traces of all routing modes and the tokens that were left for the
// next instance, and restores the node's DMI product name. It returns nil if there is
// nothing to remove.
func Cleanup(c *config.Cleanup) error {
	routes := routing.Options{Interface: c.Interface, BPFFS: c.BPFFS, Log: slog.New(slog.DiscardHandler)}.RemoveAll()
	return errors.Join(routes, handover.Remove(c.HandoverFile), dmi.ProductName{File: c.DMI.ProductName, OriginalFile: c.DMI.Original}.Restore())
}
