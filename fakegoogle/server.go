package fakegoogle

import (
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// defaultTokenLifetime is the lifetime of Google's access tokens.
const defaultTokenLifetime = time.Hour

// Options configures a [Server]. The zero value is a strict Google with the real
// clock.
type Options struct {
	// Now is the clock; default: time.Now.
	Now func() time.Time
	// TokenLifetime is the longest lifetime of any token that is issued; default:
	// one hour.
	TokenLifetime time.Duration
	// AllowAll lets every principal use every service account, and creates a
	// service account when a request names it. Every quota project can be used, and a
	// user's token needs none. It is for demonstrations. A token must still be genuine.
	AllowAll bool
	// SharedQuotaProject accepts a user's token without a quota project, and bills its
	// calls to gcloud's own project. Many of Google's APIs refuse such a call; that IAM
	// does is not known. By default it is refused.
	SharedQuotaProject bool
	// ExtendedLifetime permits access tokens of up to 12 hours, as the
	// organization policy constraint
	// iam.allowServiceAccountCredentialLifetimeExtension does.
	ExtendedLifetime bool
	// Issuers reaches the issuers of providers without a JWKS; default: no issuer can be
	// reached.
	Issuers *http.Client
	// Log receives one debug line per call, without tokens; default: no log.
	Log *slog.Logger
}

// Server is an offline Google. Its methods are safe for concurrent use.
type Server struct {
	now         func() time.Time
	allowAll    bool
	sharedQuota bool          // guarded by mu
	maxLifetime time.Duration // of an access token that a request asks for
	issuers     *http.Client  // can be nil
	log         *slog.Logger
	routes      *http.ServeMux
	idTokenKey  func() (*signingKey, error) // signs ID tokens

	mu            sync.Mutex // guards all below, and the accounts' keys
	tokenLifetime time.Duration
	pools         map[string]*deletion // by full resource name
	gkePools      map[string]string    // full resource names by ID
	providers     map[string]*provider // by the audience of a token exchange
	accounts      map[string]*account  // by e-mail address
	policies      map[string]policy    // by e-mail address or projects/ID
	users         map[string]*user     // by refresh token
	grants        grants
	blockedAPIs   map[apiOfProject]func(project, service string) *Error
	faults        map[string]*Fault         // by method
	counters      map[string]int            // by method
	billed        map[string]map[string]int // calls by method and quota project
}

// New returns an offline Google that knows no provider, account or user: it
// refuses everything.
func New(opts Options) *Server {
	s := &Server{
		now:           opts.Now,
		allowAll:      opts.AllowAll,
		maxLifetime:   time.Hour,
		issuers:       opts.Issuers,
		log:           opts.Log,
		idTokenKey:    sync.OnceValues(newSigningKey),
		tokenLifetime: opts.TokenLifetime,
		pools:         map[string]*deletion{},
		gkePools:      map[string]string{},
		providers:     map[string]*provider{},
		accounts:      map[string]*account{},
		policies:      map[string]policy{},
		users:         map[string]*user{},
		grants:        grants{byToken: map[string]*grant{}},
		blockedAPIs:   map[apiOfProject]func(project, service string) *Error{},
		billed:        map[string]map[string]int{},
		sharedQuota:   opts.SharedQuotaProject,
		faults:        map[string]*Fault{},
		counters:      map[string]int{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.tokenLifetime <= 0 {
		s.tokenLifetime = defaultTokenLifetime
	}
	if opts.ExtendedLifetime {
		s.maxLifetime = 12 * time.Hour
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.routes = s.mux()
	return s
}

// ServeHTTP answers requests to all of Google's hosts: it ignores the host name.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.routes.ServeHTTP(w, r)
}

// SetTokenLifetime sets the longest lifetime of tokens that are issued from now on.
// Tokens that are already issued keep their expiry.
func (s *Server) SetTokenLifetime(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokenLifetime = d
}

func (s *Server) mux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("POST /v1/token", s.endpoint(MethodSTSToken, s.exchange))

	// One pattern for all verbs: a ServeMux wildcard is a whole path segment, so
	// serviceAccountCall splits EMAIL:VERB.
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

// endpoint wraps every handler: it counts the call, injects the method's fault,
// reads the body up to a limit, and writes the answer. Calls of the method "" are
// not counted and have no faults.
func (s *Server) endpoint(method string, handle func(*call) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{Request: r, method: method}
		w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat)) // by the server's clock, not by this machine's
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
