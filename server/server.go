package server

import (
	"cmp"
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

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/tokens"
)

const (
	root         = "/computeMetadata/v1"
	flavorHeader = "Metadata-Flavor"
	flavor       = "Google"
	product      = "GKE Metadata Server"

	readTimeout  = 5 * time.Second  // of a whole request
	writeTimeout = 30 * time.Second // of its answer, waiting included
	idleTimeout  = 2 * time.Minute  // of a kept-alive connection; Go's clients drop theirs after 90 s
	maxHeader    = 16 << 10         // bytes
	drainTimeout = 15 * time.Second // for requests under way when the server stops; they wait 12.5 s at most
)

// Options is what a [Server] needs. Identity, Tokens and Facts are required.
type Options struct {
	Identity Identity
	Tokens   tokens.Source
	Facts    func() Facts

	// FactsChanged returns a channel that is closed when there are other facts; nil
	// where there never will be.
	FactsChanged func() <-chan struct{}

	// IdentityWait is how long a request that needs an identity, or a fact that is
	// not known yet, waits for it before 503: 2.5 s where zero, as Node's library
	// gives up after 3 s.
	IdentityWait time.Duration
	// AllowSource refuses connections by their source address; nil allows all.
	AllowSource func(netip.Addr) bool
	// AllowHost refuses requests by the host that they name, without a port; nil
	// allows all. A web page cannot choose it, whatever address its own name gets.
	AllowHost func(string) bool

	Now     func() time.Time      // time.Now where nil
	Log     *slog.Logger          // none where nil
	Metrics prometheus.Registerer // none where nil
}

// Server is GKE's metadata server.
type Server struct {
	options Options
	metrics *metrics
	router  *mux.Router
	plain   map[string]http.Handler // of the paths without a variable, and of the account default

	// Header values, which net/http reads only.
	flavor, product []string
	scopes          tokens.Scopes // of who asks for none
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
		options: o, metrics: newMetrics(o.Metrics), plain: map[string]http.Handler{},
		flavor: []string{flavor}, product: []string{product}, scopes: tokens.DefaultScopes(),
	}
	// Paths are taken as they come: cleaning them would redirect account names
	// that hold slashes, and let a path slip past a check.
	s.router = mux.NewRouter().SkipClean(true)
	s.router.NotFoundHandler = s.handle(endpoint{path: "none", value: func(*request) (value, error) { return nil, errNotFound }})
	s.route("/", directory(constant(lines{"computeMetadata/"})))
	s.directory("/computeMetadata", new(node).moved, constant(lines{"v1/"}))
	s.routes(root, newTree(s.endpoints()))
	return s
}

// accountPattern: an account's name may hold slashes.
const accountPattern = "{account:.+}"

// routes adds the routes of a directory and all below it, keys first: an account's
// name may hold slashes, so that its directory's pattern matches theirs too.
func (s *Server) routes(path string, n *node) {
	for _, child := range n.sorted() {
		pattern := path + "/" + strings.Replace(child.name, accountSegment, accountPattern, 1)
		if child.key != nil {
			s.route(pattern, *child.key)
			continue
		}
		s.routes(pattern, child)
	}
	s.directory(path, n.moved, n.answer)
}

// directory adds the routes of one directory: with a slash its answer, without
// one the way there.
func (s *Server) directory(path string, moved, answer func(*request) (value, error)) {
	s.route(path+"/", directory(answer))
	s.route(path, directory(moved))
}

// route adds one route. The router tries its patterns one after the other; what
// nearly all requests are for is found before.
func (s *Server) route(pattern string, of endpoint) {
	handler := s.handle(of)
	s.router.Handle(pattern, handler)
	if path := strings.Replace(pattern, accountPattern, defaultAccount, 1); !strings.Contains(path, "{") {
		s.plain[path] = handler
	}
}

func directory(answer func(*request) (value, error)) endpoint {
	return endpoint{path: "directory", value: answer, directory: true}
}

func constant(v value) func(*request) (value, error) {
	return func(*request) (value, error) { return v, nil }
}

// handle makes the handler of an endpoint: the only place that writes.
func (s *Server) handle(of endpoint) http.Handler {
	count := s.metrics.of(of.path)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(*measured).count = count
		q := s.request(r, of)
		answer := q.answer
		if q.waits() {
			answer = func() (encoded, error) { return q.await(w) }
		}
		a, err := answer()
		switch {
		case errors.Is(err, errMoved):
			redirect(w, r)
		case err != nil:
			fail(w, err)
		default:
			a.write(w)
		}
	})
}

// errMoved sends the client to the directory's own name, with a slash.
var errMoved = errors.New("moved")

func redirect(w http.ResponseWriter, r *http.Request) {
	// Back to the host that was asked: a client that has only the address cannot
	// resolve the name. HTTP/1.0 need not name a host.
	to := "http://" + cmp.Or(r.Host, connectionOf(r.Context()).addresses.Local.String()) + r.URL.EscapedPath() + "/"
	if r.URL.RawQuery != "" {
		to += "?" + strings.ReplaceAll(r.URL.RawQuery, "#", "%23") // here it would begin a fragment
	}
	w.Header().Set("Location", to)
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(http.StatusMovedPermanently)
	_, _ = fmt.Fprintln(w, r.URL.EscapedPath()+"/")
}

// ServeHTTP checks what holds for every request before the router sees it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := &measured{ResponseWriter: w, status: http.StatusOK, count: s.metrics.none, level: slog.LevelDebug}
	s.metrics.inFlight.Inc()
	defer s.done(m, r, time.Now())
	// On every answer, errors included: Node's library takes one without for no
	// metadata server at all.
	header := m.Header()
	header[flavorHeader], header["Server"] = s.flavor, s.product
	if err := s.check(r); err != nil {
		fail(m, err)
		return
	}
	if handler := s.plain[r.URL.Path]; handler != nil {
		handler.ServeHTTP(m, r)
		return
	}
	s.router.ServeHTTP(m, r)
}

func (s *Server) check(r *http.Request) error {
	if allow := s.options.AllowSource; allow != nil && !allow(connectionOf(r.Context()).addresses.Remote.Addr().Unmap()) {
		return errSource
	}
	if allow := s.options.AllowHost; allow != nil && !allow((&url.URL{Host: r.Host}).Hostname()) {
		return errHost
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return errMethod
	}
	if _, forwarded := r.Header["X-Forwarded-For"]; forwarded {
		return errForwarded
	}
	// Compute Engine answers / to everybody, GKE does not; Go's and Fluentd's
	// probes come without the header and look for it in the answer.
	if r.URL.Path != "/" && r.Header.Get(flavorHeader) != flavor {
		return errNoFlavor
	}
	return nil
}

// Serve answers on a listener until ctx ends, then lets the requests under way end.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	crowd := s.metrics.newCrowd(maxConnections)
	server := &http.Server{
		Handler: s,
		ConnContext: func(of context.Context, c net.Conn) context.Context {
			return context.WithValue(of, connectionKey{}, newConnection(c, ctx.Done()))
		},
		ConnState:         crowd.state,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.options.Log.Handler(), slog.LevelDebug),
		// OPTIONS * would be answered without the checks and the flavor.
		DisableGeneralOptionsHandler: true,
	}
	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		drained <- server.Shutdown(ctx)
	})
	err := server.Serve(wrapped{listener})
	if stop() { // it failed by itself
		return fmt.Errorf("metadata server on %s: %w", listener.Addr(), err)
	}
	if err := <-drained; err != nil {
		_ = server.Close()
		return fmt.Errorf("metadata server on %s: requests were still under way after %s: %w", listener.Addr(), drainTimeout, err)
	}
	return nil
}
