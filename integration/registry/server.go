package registry

import (
	"cmp"
	"fmt"
	"gke-metadata-emulator/integration/internal/standin"
	"io"
	"log"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Options are the properties of a [Server]. Fake and Policy are needed.
type Options struct {
	// Fake is the base URL of the fakegoogle whose tokens are accepted, like
	// http://127.0.0.1:8988.
	Fake string
	// Policy knows the repositories and the permissions on them.
	Policy Policy
	// Client looks up tokens in fakegoogle. Default: a client that never uses a proxy.
	Client *http.Client
	// Now is the clock; time.Now by default.
	Now func() time.Time
	// Log receives one line per request, without tokens; nothing is logged by
	// default.
	Log *slog.Logger
}

// Server is the stand-in as a handler for all hosts LOCATION-docker.pkg.dev. Its
// images are in memory.
type Server struct {
	access  *standin.Tokens
	policy  Policy
	now     func() time.Time
	log     *slog.Logger
	records *standin.Records[Record]

	mu           sync.Mutex
	repositories map[string]http.Handler
	tokens       map[string]grant // of the registry's own
}

// New makes a stand-in without images.
func New(opts Options) (*Server, error) {
	access, err := standin.NewTokens(opts.Fake, opts.Client)
	if err != nil {
		return nil, fmt.Errorf("registry: Options.Fake: %w", err)
	}
	if opts.Policy == nil {
		return nil, fmt.Errorf("registry: Options.Policy is nil: give one, like a *registry.Policies")
	}
	s := &Server{
		access: access, policy: opts.Policy, now: opts.Now,
		log:          cmp.Or(opts.Log, slog.New(slog.DiscardHandler)),
		repositories: map[string]http.Handler{}, tokens: map[string]grant{}, records: standin.NewRecords[Record](maxRecords),
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// ServeHTTP answers a request if its token permits it, and keeps a record of it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	recorded := &standin.Recorder{ResponseWriter: w}
	record := Record{Time: s.now(), Method: r.Method, Path: r.URL.Path}
	defer func() {
		record.Status = recorded.Status
		s.add(r.Context(), record)
	}()
	recorded.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if refused := s.serve(recorded, r, &record); refused != nil {
		writeError(recorded, r, refused)
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, record *Record) *refusal {
	location, ok := location(r)
	switch {
	case !ok:
		return methodUnknown()
	case r.URL.EscapedPath() == tokenPath:
		return s.exchange(w, r, location, record)
	case r.URL.EscapedPath() == "/v2/":
		caller, _, refused := s.authenticate(r)
		if refused == nil {
			record.by(caller)
			w.WriteHeader(http.StatusOK)
		}
		return refused
	}
	wanted, refused := requestedAccess(location, r)
	if refused != nil {
		return refused
	}
	record.Repository = wanted.repository
	caller, granted, refused := s.authenticate(r)
	if refused == nil && granted != nil && !granted.covers(wanted) {
		refused = tokenInvalid()
	}
	if refused != nil {
		refused.scope = wanted.scope()
		return refused
	}
	record.by(caller)
	if refused := s.permit(caller, wanted); refused != nil {
		return refused
	}
	// The token has been checked, and the registry behind must not see it.
	r = r.Clone(r.Context())
	r.Header.Del("Authorization")
	s.repository(wanted.repository).ServeHTTP(w, r)
	return nil
}

// authenticate returns the caller of a request, and the grant of its token if the registry
// issued it.
func (s *Server) authenticate(r *http.Request) (*standin.Caller, *grant, *refusal) {
	if token, ok := standin.Bearer(r); ok {
		if own, ok := s.issued(token); ok {
			return &own.Caller, &own, nil
		}
	}
	token, given := password(r)
	if !given {
		return nil, nil, tokenMissing()
	}
	caller, refused := s.identify(r.Context(), token)
	return caller, nil, refused
}

// permit refuses an access for which the caller has no permission.
func (s *Server) permit(c *standin.Caller, a access) *refusal {
	switch {
	case !hasScope(c, a.permission):
		return scopeMissing()
	case !s.policy.Allowed(a.repository, c.Principal, a.permission):
		return denied(a)
	case !s.policy.HasRepository(a.repository):
		return repositoryUnknown(a)
	}
	return nil
}

// repository returns the handler for the images of one repository. go-containerregistry's
// registry shares blobs between all images, so each repository has a separate one.
func (s *Server) repository(name string) http.Handler {
	s.mu.Lock()
	defer s.mu.Unlock()
	images, ok := s.repositories[name]
	if !ok {
		images = registry.New(registry.Logger(log.New(io.Discard, "", 0)))
		s.repositories[name] = images
	}
	return images
}
