package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/tokens"
)

const (
	root         = "/computeMetadata/v1"
	flavorHeader = "Metadata-Flavor"
	flavor       = "Google"
	product      = "GKE Metadata Server"

	readTimeout  = 5 * time.Second  // for a whole request
	writeTimeout = 30 * time.Second // for its response, including the wait for a token
	idleTimeout  = 2 * time.Minute  // of a kept-alive connection; Go's clients close theirs after 90 s
	maxHeader    = 16 << 10         // bytes
	drainTimeout = 15 * time.Second // for requests in progress when the server stops; they wait for at most 12.5 s
)

// Options is what a [Server] needs. Identity, Tokens and Facts are required.
type Options struct {
	Identity Identity
	Tokens   tokens.Source // bounds the wait for a token, which must be well below writeTimeout
	Facts    func() Facts

	// FactsChanged returns a channel that is closed when the facts have changed.
	// Default: the facts never change.
	FactsChanged func() <-chan struct{}

	// IdentityWait is how long a request waits for an identity, or for a fact that is
	// not known yet, before it is answered with 503. Default: 2.5 s, because Node's
	// library gives up after 3 s.
	IdentityWait time.Duration
	// AllowSource decides by source address whether a request is refused. Default:
	// every address is allowed.
	AllowSource func(netip.Addr) bool
	// CheckHost decides by the host that a request names, without its port, whether it
	// is refused. The error's text is the remedy. A web page cannot forge that name by
	// pointing its own domain at this server. Default: every host is allowed.
	CheckHost func(string) error

	Now     func() time.Time      // default: time.Now
	Log     *slog.Logger          // default: no log
	Metrics prometheus.Registerer // default: no metrics
}

// Server is GKE's metadata server.
type Server struct {
	options       Options
	metrics       *metrics
	router        *router
	defaultScopes tokens.Scopes // for a request without scopes

	// Header values, shared by all responses. net/http only reads them.
	flavorValue, productValue []string
}

// New makes a server from its endpoint table.
func New(o Options) *Server {
	if o.IdentityWait == 0 {
		o.IdentityWait = 2500 * time.Millisecond
	}
	if o.FactsChanged == nil {
		o.FactsChanged = func() <-chan struct{} { return nil }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	s := &Server{
		options: o, metrics: newMetrics(o.Metrics), defaultScopes: tokens.DefaultScopes(),
		flavorValue: []string{flavor}, productValue: []string{product},
	}
	s.router = newRouter(s.handler(endpoint{path: "none", value: func(*request) (value, error) { return nil, errNotFound }}))
	s.router.handle("/", s.directoryHandler(constant(list{"computeMetadata/"})))
	s.addDirectory("/computeMetadata", new(node).redirect, constant(list{"v1/"}))
	s.addTree(root, newTree(s.endpoints()))
	return s
}

// addTree routes a directory and everything below it. Keys come first: the name of an
// account can hold slashes, so the pattern of its directory also matches its keys.
func (s *Server) addTree(path string, directory *node) {
	for _, child := range directory.sorted() {
		childPath := path + "/" + strings.Replace(child.segment, accountSegment, accountPattern, 1)
		if child.key == nil {
			s.addTree(childPath, child)
			continue
		}
		s.router.handle(childPath, s.handler(*child.key))
	}
	s.addDirectory(path, directory.redirect, directory.value)
}

// addDirectory routes both names of a directory, with a slash and without.
func (s *Server) addDirectory(path string, redirect, value func(*request) (value, error)) {
	s.router.handle(path+"/", s.directoryHandler(value))
	s.router.handle(path, s.directoryHandler(redirect))
}

func (s *Server) directoryHandler(value func(*request) (value, error)) http.Handler {
	return s.handler(endpoint{path: "directory", value: value, directory: true})
}

// handler is the handler of an endpoint. Its requests come from [Server.ServeHTTP].
func (s *Server) handler(e endpoint) http.Handler {
	metrics := s.metrics.forEndpoint(e.path)
	return http.HandlerFunc(func(writer http.ResponseWriter, r *http.Request) {
		w := writer.(*response)
		w.metrics = metrics
		var body encoded
		q, err := s.begin(r, &e)
		switch {
		case err != nil:
		case q.waitsForChange():
			body, err = q.awaitChange(w)
		default:
			body, err = q.encoded()
		}
		switch {
		case errors.Is(err, errRedirect):
			w.writeRedirect(r)
		case err != nil:
			w.writeError(err)
		default:
			w.writeEncoded(body)
		}
	})
}

// ServeHTTP runs the checks that apply to every request, then the router. The context
// of r must come from [Server.Serve].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := connOf(r.Context())
	c.response = response{ResponseWriter: w, start: time.Now(), status: http.StatusOK, metrics: s.metrics.none, level: slog.LevelDebug}
	s.metrics.inFlight.Inc()
	defer s.end(c, r)
	// On every response, errors included: Node's library takes one without the flavor
	// for that of another server.
	header := w.Header()
	header[flavorHeader], header["Server"] = s.flavorValue, s.productValue
	if err := s.check(c, r); err != nil {
		c.response.writeError(err)
		return
	}
	s.router.ServeHTTP(&c.response, r)
}

// end records the response. An idle connection holds no request.
func (s *Server) end(c *conn, r *http.Request) {
	s.record(&c.response, r)
	c.request, c.response = request{}, response{}
}

func (s *Server) check(c *conn, r *http.Request) error {
	if allow := s.options.AllowSource; allow != nil && !allow(c.addresses.Remote.Addr().Unmap()) {
		return errSource
	}
	if checkHost := s.options.CheckHost; checkHost != nil {
		if err := checkHost((&url.URL{Host: r.Host}).Hostname()); err != nil {
			return &refusal{http.StatusForbidden, "The Host header does not name the metadata server: " + err.Error()}
		}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return errMethod
	}
	if _, forwarded := r.Header["X-Forwarded-For"]; forwarded {
		return errForwarded
	}
	// Compute Engine answers / for every request, GKE does not. The probes of Go and
	// Fluentd lack the header and look for it in the response.
	if r.URL.Path != "/" && r.Header.Get(flavorHeader) != flavor {
		return errNoFlavor
	}
	return nil
}

// Serve answers requests on a listener until ctx ends, and then waits for requests
// in progress, for at most drainTimeout. It returns nil if all of them were answered.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	limiter := s.metrics.newConnLimiter(maxConnections)
	server := &http.Server{
		Handler:           s,
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return withConn(ctx, c.(*conn)) },
		ConnState:         limiter.onState,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.options.Log.Handler(), slog.LevelDebug),
		// net/http would answer OPTIONS * without the checks and the flavor.
		DisableGeneralOptionsHandler: true,
	}
	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		drained <- server.Shutdown(ctx)
	})
	err := server.Serve(listener{l, ctx.Done()})
	if stop() { // ctx has not ended: the listener failed
		return fmt.Errorf("metadata server on %s: %w", l.Addr(), err)
	}
	if err := <-drained; err != nil {
		_ = server.Close()
		return fmt.Errorf("metadata server on %s: requests were still in progress after %s: %w", l.Addr(), drainTimeout, err)
	}
	return nil
}
