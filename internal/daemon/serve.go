package daemon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/apiserver"
	"gke-metadata-emulator/internal/gc"
	"gke-metadata-emulator/internal/prefetch"
	"gke-metadata-emulator/routing"
	"gke-metadata-emulator/server"
	"gke-metadata-emulator/tokens"
)

// Run is the daemon of a node, until ctx ends. The settings have been completed.
// Logs go to stderr.
func (s *Serve) Run(ctx context.Context, stderr io.Writer) error {
	log := s.logger(stderr)
	// What the Kubernetes client logs comes through the same sink.
	ctx = logr.NewContextWithSlogLogger(ctx, log)
	registry := newRegistry()

	// What can be wrong with files is said before anything starts.
	engine, err := s.tokenOptions(registry)
	if err != nil {
		return err
	}
	defer engine.HTTPClient.CloseIdleConnections()
	traces, err := s.tracing(ctx, engine, log)
	if err != nil {
		return err
	}
	defer func() { _ = traces.Close() }()
	left, err := s.openHandover()
	if err != nil {
		return err
	}
	config, err := s.cluster()
	if err != nil {
		return err
	}
	clients, err := newClients(config)
	if err != nil {
		return err
	}
	defer clients.close()
	attested, err := s.attestation(registry, log)
	if err != nil {
		return err
	}
	defer func() { _ = attested.close() }()
	who, err := identity.NewKubernetes(identity.KubernetesOptions{
		Node: s.NodeName, Pods: clients.watching, Metadata: clients.metadata, Log: log, Metrics: registry,
	})
	if err != nil {
		return err
	}

	routes := routing.Options{Interface: s.Interface, BPFFS: s.BPFFS, Kubepods: attested.kubepods(), Repaired: routing.NewRepaired(registry), Log: log}
	mode, why, err := s.chooseRouting(routes)
	if err != nil {
		return err
	}
	log.Info("routing", "mode", mode, "why", why)
	newModes(registry).WithLabelValues(mode, attested.mode).Set(1)
	s.presentProductName(log)
	front, router, err := s.openRouted(routes, mode, attested)
	if err != nil {
		return err
	}
	defer front.close()

	g := newGroup(ctx)
	if s.Credentials == Fake {
		google, url, err := startFake(g, s.FakeListen, log)
		if err != nil {
			return g.abandon(err)
		}
		engine.federate(url)
		g.Go(func() error { return trustCluster(g.ctx, google, s.Provider, clients.requests, log) })
	}
	engine.subjects(tokens.ClusterTokens{Accounts: clients.requests, Node: s.NodeName})
	if engine.Audit, err = s.auditLog(g); err != nil {
		return g.abandon(err)
	}
	source, err := tokens.New(engine.Options)
	if err != nil {
		return g.abandon(err)
	}
	defer source.Close()
	defer s.handOver(g, left, source, registry, log)()
	s.reloadRules(g, source, registry, log)
	g.Go(func() error { source.Follow(g.ctx, who); return nil })

	facts := s.facts(s.NodeName)
	told := newTold(clients.requests, s.NodeName, facts, registry, log)
	answering, explaining, err := s.tellPods(g, clients.events, registry, log, who, source)
	if err != nil {
		return g.abandon(err)
	}
	metadataServer := server.New(server.Options{
		Identity: answering, Tokens: explaining, Facts: facts.get, FactsChanged: facts.changed.Next, IdentityWait: s.IdentityWait, Log: log, Metrics: registry,
	})
	g.Go(func() error { return who.Run(g.ctx) })
	if s.Prefetch {
		early := prefetch.New(prefetch.Options{
			Identity: who, Tokens: explaining, Usage: source, Log: log, Metrics: registry,
			// gcloud and shells ask for none, most of Google's libraries for this one.
			Scopes: []tokens.Scopes{tokens.DefaultScopes(), tokens.NewScopes(tokens.CloudPlatform)},
		})
		g.Go(func() error { return early.Run(g.ctx) })
	}
	g.Go(func() error { return told.clusterUID(g.ctx) })
	if !s.zoneGiven {
		g.Go(func() error { return told.zone(g.ctx, s.Project) })
	}
	if k, ok := router.(keeper); ok {
		g.Go(func() error { return k.Keep(g.ctx) })
	}
	s.reloadAttributes(g, facts, registry, log)
	front.serve(g, metadataServer, registry, facts.get().InstanceID, who.Ready, s.Listening)
	s.removeStartupTaint(g, clients.requests, front.callers.Addr().String(), who.Ready, registry, log)
	// Only now: what starting needs is less than the floor, and would stay on the heap.
	defer gc.HoldFloor(gc.DefaultFloor, os.LookupEnv)()
	log.Info("serving", "node", s.NodeName, "listen", front.callers.Addr().String(), "admin", front.admin.Addr().String(), "credentials", s.Credentials, "routing", mode)
	return g.Wait()
}

func (s *Serve) cluster() (*rest.Config, error) {
	if s.Kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, wrong("kubeconfig", "give the path of a kubeconfig file", "outside a pod there is no default: %v", err)
		}
		return config, nil
	}
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		return nil, wrong("kubeconfig", "give the path of a kubeconfig file", "%v", err)
	}
	return config, nil
}

// clients of the API server. Each has its own budget of requests, so that look-ups
// by many connections cannot starve the requests for tokens.
type clients struct {
	http     *http.Client
	watching *apiserver.Client
	requests *apiserver.Client
	metadata metadata.Interface
	events   *apiserver.Client
}

func newClients(config *rest.Config) (*clients, error) {
	config = rest.CopyConfig(config)
	config.UserAgent = "gke-metadata-emulator"
	// The library's default of 5 requests a second is far below what a dense node
	// asks when its pods start at once.
	config.QPS, config.Burst = 100, 200
	c := &clients{}
	var err error
	if c.http, err = rest.HTTPClientFor(config); err == nil {
		c.watching, err = apiserver.New(config, c.http)
	}
	if err == nil {
		c.requests, err = apiserver.New(config, c.http)
	}
	if err == nil {
		few := rest.CopyConfig(config)
		few.QPS, few.Burst = 5, 20
		c.events, err = apiserver.New(few, c.http)
	}
	if err == nil {
		c.metadata, err = metadata.NewForConfigAndClient(metadata.ConfigFor(config), c.http)
	}
	if err != nil {
		return nil, fmt.Errorf("API server client: %w", err)
	}
	return c, nil
}

func (c *clients) close() { utilnet.CloseIdleConnectionsFor(c.http.Transport) }

// tokenOptions are the engine's, but for where KSA tokens come from.
func (s *Serve) tokenOptions(registry prometheus.Registerer) (*engineOptions, error) {
	if err := s.readRules(); err != nil {
		return nil, err
	}
	o := &engineOptions{tokens.Options{
		WorkloadPool: s.WorkloadPool, Provider: s.Provider,
		IAMCredentialsEndpoint: s.IAMCredentials, IAMEndpoint: s.IAM,
		Limits: s.limits, Rules: s.rules, Delegates: s.delegates(),
		HTTPClient: upstreamClient(), Metrics: registry,
	}}
	if s.Credentials != Impersonation {
		o.Federation = &tokens.Federation{Provider: s.Provider, STSEndpoint: s.STS}
		return o, nil
	}
	var err error
	if o.SourceCredential, err = sourceCredential(s.SourceCredentials, o.HTTPClient); err != nil {
		return nil, err
	}
	switch s.Policy {
	case PolicyOff:
		o.Policy = tokens.AllowAll{}
	case PolicyFile:
		o.RulesDecide = true
	}
	return o, nil
}

type engineOptions struct{ tokens.Options }

// federate points federation at a Google of which all services have one URL.
func (o *engineOptions) federate(url string) {
	o.Federation.STSEndpoint, o.IAMCredentialsEndpoint, o.IAMEndpoint = url, url, url
}

// subjects says where KSA tokens come from, where any are needed.
func (o *engineOptions) subjects(s tokens.SubjectTokens) {
	if o.Federation != nil {
		o.Federation.Subjects = s
	}
}
