package fakegoogle

import (
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// defaultTokenLife is how long Google's access tokens live.
const defaultTokenLife = time.Hour

// Options are the properties of a Server. The zero value is a strict Google
// with the real clock.
type Options struct {
	// Now is the clock; time.Now by default.
	Now func() time.Time
	// TokenLife bounds the life of every token that is issued; an hour by
	// default.
	TokenLife time.Duration
	// AllowAll lets every principal use every service account, and lets service
	// accounts appear when they are asked for: for demonstrations. A token must
	// still be genuine.
	AllowAll bool
	// ExtendedLifetime permits access tokens of up to 12 hours, as the
	// organization policy constraint
	// iam.allowServiceAccountCredentialLifetimeExtension does.
	ExtendedLifetime bool
	// Log receives one line per call, without tokens; nothing is logged by
	// default.
	Log *slog.Logger
}

// Server is an offline Google. Its methods may be called at any time, from any
// goroutine.
type Server struct {
	now      func() time.Time
	allowAll bool
	maxLife  time.Duration
	log      *slog.Logger
	routes   *http.ServeMux
	idKey    func() (*signingKey, error) // signs ID tokens

	mu        sync.Mutex
	tokenLife time.Duration
	providers map[string]*provider // by full resource name
	accounts  map[string]*account  // by e-mail address
	policies  map[string]policy    // by e-mail address or projects/ID
	users     map[string]*user     // by refresh token
	grants    grants
	faults    map[string]*Fault // by method
	counters  map[string]int    // by method
}

// New makes an offline Google with nothing in it: it refuses everything.
func New(opts Options) *Server {
	s := &Server{
		now:       opts.Now,
		allowAll:  opts.AllowAll,
		maxLife:   time.Hour,
		log:       opts.Log,
		idKey:     sync.OnceValues(newSigningKey),
		tokenLife: opts.TokenLife,
		providers: map[string]*provider{},
		accounts:  map[string]*account{},
		policies:  map[string]policy{},
		users:     map[string]*user{},
		grants:    grants{byToken: map[string]*grant{}},
		faults:    map[string]*Fault{},
		counters:  map[string]int{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.tokenLife <= 0 {
		s.tokenLife = defaultTokenLife
	}
	if opts.ExtendedLifetime {
		s.maxLife = 12 * time.Hour
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.routes = s.mux()
	return s
}

// ServeHTTP answers for all of Google.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.routes.ServeHTTP(w, r)
}

// SetTokenLife bounds the life of the tokens issued from now on.
func (s *Server) SetTokenLife(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokenLife = d
}

func (s *Server) mux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("POST /v1/token", s.endpoint(MethodSTSToken, s.exchange))

	// One pattern for all verbs: a ServeMux wildcard is a whole path segment, so
	// EMAIL:VERB is taken apart in serviceAccountCall.
	mux.HandleFunc("POST /v1/projects/{project}/serviceAccounts/{call}", s.serviceAccountCall)
	mux.Handle("GET /v1/projects/{project}/serviceAccounts/{email}/allowedLocations", s.endpoint("", allowedLocations))

	mux.Handle("POST /token", s.endpoint(MethodOAuth2Token, s.oauth2Token))
	for _, path := range []string{"/tokeninfo", "/oauth2/v3/tokeninfo"} {
		mux.Handle("GET "+path, s.endpoint(MethodOAuth2TokenInfo, s.tokenInfo))
		mux.Handle("POST "+path, s.endpoint(MethodOAuth2TokenInfo, s.tokenInfo))
	}
	mux.Handle("GET /oauth2/v3/certs", s.endpoint("", s.certs))
	mux.Handle("GET /service_accounts/v1/jwk/{email}", s.endpoint("", s.accountCerts))

	s.adminRoutes(mux)
	return mux
}

// endpoint is the frame around every handler: it counts, applies the fault set
// for the method, bounds and reads the body, and writes the answer. A method of
// "" is neither counted nor faulted.
func (s *Server) endpoint(method string, handle func(*call) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{Request: r, method: method}
		w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat)) // by its clock, not this machine's
		answer, err := s.answer(c, w, handle)
		if r.Context().Err() != nil {
			return // the caller hung up during a fault's latency
		}
		status := http.StatusOK
		if err != nil {
			status = writeError(w, err)
			c.log = append(c.log, slog.String("error", err.Error()))
		} else {
			writeJSON(w, status, answer)
		}
		c.log = append(c.log, slog.String("method", method), slog.Int("status", status))
		s.log.LogAttrs(r.Context(), slog.LevelDebug, "call", c.log...)
	})
}

func (s *Server) answer(c *call, w http.ResponseWriter, handle func(*call) (any, error)) (any, error) {
	if err := s.countAndFault(c); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, c.Body, maxBody))
	if err != nil {
		return nil, invalidArgument("Request payload size exceeds the limit: 1048576 bytes.")
	}
	c.body = body
	return handle(c)
}
