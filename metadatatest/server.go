package metadatatest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/daemon"
	"gke-metadata-emulator/tokens"
)

// Server is a metadata server that listens. Its methods are safe for concurrent use.
type Server struct {
	Host string // 127.0.0.1:PORT, for GCE_METADATA_HOST
	URL  string // http://127.0.0.1:PORT

	google  *fakegoogle.Server
	callers *callers
	faults  *faultInjector
	stop    context.CancelFunc
	ended   chan error // receives the end of the daemon

	// Set by options.
	noEnv                    bool
	projectID, projectNumber string
	initialLinks             []func() error
	identities               []func() (map[string]string, error)
}

// New starts a server that ends with the test, and sets the environment so that
// Google's libraries find it. If the server cannot start, the test fails.
func New(t testing.TB, options ...Option) *Server {
	t.Helper()
	s, err := Start(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if s.noEnv {
		return s
	}
	for name, value := range s.env() {
		t.Setenv(name, value)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	// gcloud's own credentials come before the metadata server.
	if home, err := os.UserHomeDir(); err == nil {
		if _, err := os.Stat(filepath.Join(home, ".config", "gcloud", "application_default_credentials.json")); err == nil {
			t.Setenv("HOME", t.TempDir())
		}
	}
	return s
}

// Start starts a server without a test, for example in TestMain or an example. It
// does not change the environment. [Server.Close] ends the server. The error names
// the option that is wrong.
func Start(options ...Option) (*Server, error) {
	s := &Server{google: fakegoogle.New(fakegoogle.Options{}), faults: &faultInjector{}, ended: make(chan error, 1)}
	if err := s.google.AddPool(config.FakePool); err != nil {
		return nil, err
	}
	for _, option := range options {
		option(s)
	}
	var identities []map[string]string
	for _, parse := range s.identities {
		parsed, err := parse()
		if err != nil {
			return nil, err
		}
		identities = append(identities, parsed)
	}
	var err error
	if s.callers, err = newCallers(identities); err != nil {
		return nil, err
	}
	if s.initialLinks == nil {
		Link("default/default", "demo@demo-project.iam.gserviceaccount.com")(s)
	}
	for _, link := range s.initialLinks {
		if err := link(); err != nil {
			return nil, err
		}
	}
	return s, s.serve()
}

func (s *Server) serve() error {
	const freePort = "127.0.0.1:0"
	listening := make(chan string, 1)
	settings := config.NewStandalone()
	settings.Listen, settings.Google.FakeListen = config.Listen{Address: freePort, Admin: freePort}, freePort
	settings.Project.ID, settings.Project.Number, settings.Project.ClusterName = s.projectID, s.projectNumber, "test"
	settings.Logging.Level = "error"
	overrides := daemon.Overrides{Identity: s.callers, Google: s.google, Tokens: func(next tokens.Source) tokens.Source {
		s.faults.next = next
		return s.faults
	}}
	if err := settings.Complete(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() {
		s.ended <- daemon.Standalone(ctx, settings, overrides, io.Discard, func(clients, _ net.Addr) { listening <- clients.String() })
	}()
	select {
	case s.Host = <-listening:
		s.URL = "http://" + s.Host
		return nil
	case err := <-s.ended:
		stop()
		return err
	}
}

// Close ends the failures that were set, waits for the requests in flight, and ends
// the server. It returns the error with which the server ended.
func (s *Server) Close() error {
	s.Recover()
	s.stop()
	return <-s.ended
}

func (s *Server) env() map[string]string {
	return map[string]string{"GCE_METADATA_HOST": s.Host, "GCE_METADATA_IP": s.Host, "GCE_METADATA_ROOT": s.Host}
}

// Env returns the environment variables, NAME=VALUE, by which another process finds
// the server: with Google's libraries in all languages, and with gcloud. Append them
// to [os/exec.Cmd.Env].
func (s *Server) Env() []string {
	var lines []string
	for name, value := range s.env() {
		lines = append(lines, name+"="+value)
	}
	slices.Sort(lines)
	return lines
}

// Client returns an HTTP client that connects to the server for every host:
// metadata.NewClient(srv.Client()) needs no environment.
func (s *Server) Client() *http.Client { return s.ClientFrom("") }

// ClientFrom is [Server.Client] with connections from an IP address of this machine;
// see [At].
func (s *Server) ClientFrom(address string) *http.Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	if address != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(address)}
	}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, s.Host)
	}}}
}

// Link links a KSA (NAMESPACE/NAME) to a GSA, like the annotation and the IAM binding
// together. It applies from the next request on. It panics if ksa has another form.
func (s *Server) Link(ksa, gsa string) { must(s.link(ksa, gsa)) }

func (s *Server) link(ksa, gsa string) error {
	namespace, name, err := splitKSA(ksa)
	if err != nil {
		return err
	}
	if err := s.google.Bind(gsa, workloadIdentityUser, daemon.FakeMember(namespace, name)); err != nil {
		return err
	}
	s.callers.change(func(links map[string]string) { links[ksa] = gsa })
	return nil
}

// Unlink removes the annotation: the KSA gets its own federated token. It panics if
// ksa is not of the form NAMESPACE/NAME.
func (s *Server) Unlink(ksa string) {
	_, _, err := splitKSA(ksa)
	must(err)
	s.callers.change(func(links map[string]string) { delete(links, ksa) })
}

// Unbind removes the IAM binding, but not the annotation: until [Server.Link],
// requests are refused with 403 and a text that names the missing binding. It panics
// if ksa is not of the form NAMESPACE/NAME.
func (s *Server) Unbind(ksa, gsa string) {
	namespace, name, err := splitKSA(ksa)
	must(err)
	s.google.Unbind(gsa, workloadIdentityUser, daemon.FakeMember(namespace, name))
	s.callers.change(func(map[string]string) {})
}

const workloadIdentityUser = "roles/iam.workloadIdentityUser"

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Principal is the identity of an access token.
type Principal struct {
	Name string // serviceAccount:EMAIL, or principal://... of a KSA without a GSA
	KSA  string // NAMESPACE/NAME
	// DelegationChain is the way from the first caller to the principal: the first
	// caller, then each delegate, without the principal.
	DelegationChain []string
	Scopes          []string
	Expiry          time.Time
}

// ErrToken is the error for an access token that this server never issued, or that
// has expired. Google's APIs answer 401.
var ErrToken = errors.New("metadatatest: the access token was not issued by this server, or has expired")

// Principal returns the identity that Google's APIs see in an access token. The
// error is [ErrToken].
func (s *Server) Principal(token string) (Principal, error) {
	grant, ok := s.google.Inspect(token)
	if !ok {
		return Principal{}, ErrToken
	}
	return Principal{Name: grant.Principal, KSA: grant.KSA, DelegationChain: grant.DelegationChain, Scopes: grant.Scopes, Expiry: grant.Expiry}, nil
}

// GoogleClient returns an HTTP client whose requests to every host reach the offline
// Google, without a network. With it idtoken.NewValidator gets Google's keys, and
// clients of IAM Credentials work.
func (s *Server) GoogleClient() *http.Client {
	return &http.Client{Transport: handlerTransport{s.google}}
}

// GoogleCalls returns the number of calls of each of Google's methods, including
// failed calls. The keys are those of fakegoogle.Methods.
func (s *Server) GoogleCalls() map[string]int { return s.google.Counters() }
