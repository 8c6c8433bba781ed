package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"gke-metadata-emulator/internal/httpserver"
)

// Options of [New]. Those without a default are required.
type Options struct {
	Listener   net.Listener
	Gatherer   prometheus.Gatherer
	Ready      func() error // why the program cannot answer pods yet; nil if it can
	InstanceID string       // instance/id of the metadata server
	// NodeURL is the base URL at which processes in the node's network namespace
	// reach the metadata server. Default: they reach it as pods do.
	NodeURL string
}

// Server is the server for operators.
type Server struct {
	http.Handler
	options Options
}

// New returns a server that does not accept connections until [Server.Run].
func New(o Options) *Server {
	s := &Server{options: o}
	r := mux.NewRouter()
	get := func(path string, handler http.Handler) {
		r.Methods(http.MethodGet, http.MethodHead).Path(path).Handler(handler)
	}
	get("/metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	get("/healthz", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") }))
	get("/readyz", http.HandlerFunc(s.readyz))
	s.Handler = r
	return s
}

// Run serves until ctx ends, and closes the listener.
func (s *Server) Run(ctx context.Context) error {
	return httpserver.Run(ctx, "admin server", s.options.Listener, s)
}
