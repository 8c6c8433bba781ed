package examples

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"gke-metadata-emulator/integration/cluster"
	"gke-metadata-emulator/integration/internal/certs"
)

// internet is a handler for each name that workloads and operators know, behind
// TLS: in the cluster on one address, on this machine behind a proxy.
type internet struct {
	handlers  map[string]http.Handler // by host
	identity  tls.Certificate
	authority []byte // that has issued it, in PEM
	proxy     string // of this machine: http://127.0.0.1:PORT
}

// locations are the regions that have an Artifact Registry.
var locations = []string{"europe-west1", "europe-west3", "us", "us-central1"}

// sites are the stand-ins by their names.
func (s *Fixture) sites() map[string]http.Handler {
	sites := map[string]http.Handler{
		"storage.googleapis.com":        s.Cloud, // serves policies, and passes the rest on
		"www.googleapis.com":            s.Google,
		"oauth2.googleapis.com":         s.Google,
		"sts.googleapis.com":            s.Google,
		"iamcredentials.googleapis.com": s.Google,
	}
	for _, api := range []string{"iam", "artifactregistry", "cloudresourcemanager", "serviceusage"} {
		sites[api+".googleapis.com"] = s.Cloud
	}
	for _, location := range locations {
		sites[location+"-docker.pkg.dev"] = s.Registry
	}
	return sites
}

func newInternet(handlers map[string]http.Handler) (*internet, error) {
	i := &internet{handlers: handlers}
	var err error
	i.identity, i.authority, err = certs.New(i.names()...)
	return i, err
}

func (i *internet) names() []string { return slices.Sorted(maps.Keys(i.handlers)) }

// ServeHTTP passes a request to the handler of its host.
func (i *internet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	handler, ok := i.handlers[strings.ToLower(name)]
	if !ok {
		http.Error(w, "no stand-in is "+name, http.StatusMisdirectedRequest)
		return
	}
	handler.ServeHTTP(w, r)
}

// start serves on the cluster's address, until the test ends.
func (i *internet) start(t T, c *cluster.Cluster) {
	t.Helper()
	inside, err := c.Listen(net.JoinHostPort(cluster.Address, "443"))
	if err != nil {
		t.Fatal(err)
	}
	i.serve(t, inside)
}

// startProxy serves clients on this machine that use a proxy, until the test ends.
func (i *internet) startProxy(t T) {
	t.Helper()
	proxied := newConnections()
	i.serve(t, proxied)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i.proxy = "http://" + listener.Addr().String()
	run(t, &http.Server{Handler: proxy{i, proxied}, ReadHeaderTimeout: time.Minute}, func(s *http.Server) error { return s.Serve(listener) })
}

func (i *internet) serve(t T, listener net.Listener) {
	server := &http.Server{
		Handler: i, TLSConfig: &tls.Config{Certificates: []tls.Certificate{i.identity}}, ReadHeaderTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // of clients that hang up
	}
	run(t, server, func(s *http.Server) error { return s.ServeTLS(listener, "", "") })
}

func run(t T, server *http.Server, serve func(*http.Server) error) {
	ended := make(chan error, 1)
	go func() { ended <- serve(server) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}
