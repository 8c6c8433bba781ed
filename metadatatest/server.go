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
	"gke-metadata-emulator/internal/daemon"
	"gke-metadata-emulator/tokens"
)

// Server is a metadata server that listens. Its methods may be called at any time,
// from any goroutine.
type Server struct {
	Host string // 127.0.0.1:PORT, for GCE_METADATA_HOST
	URL  string // http://127.0.0.1:PORT

	fake    *fakegoogle.Server
	callers *callers
	gate    *gate
	stop    context.CancelFunc
	ended   chan error

	// Of the options.
	noEnv                    bool
	projectID, projectNumber string
	initial                  []func() error
	initialRows              []func() (map[string]string, error)
}

// New starts a server for the life of a test, and leads Google's libraries to it.
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

// Start starts a server where there is no test, as in TestMain or an example. It
// leaves the environment alone. [Server.Close] ends it.
func Start(options ...Option) (*Server, error) {
	s := &Server{fake: fakegoogle.New(fakegoogle.Options{}), gate: &gate{}, ended: make(chan error, 1)}
	for _, option := range options {
		option(s)
	}
	var rows []map[string]string
	for _, parse := range s.initialRows {
		row, err := parse()
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	var err error
	if s.callers, err = newCallers(rows); err != nil {
		return nil, err
	}
	if s.initial == nil {
		Link("default/default", "demo@demo-project.iam.gserviceaccount.com")(s)
	}
	for _, link := range s.initial {
		if err := link(); err != nil {
			return nil, err
		}
	}
	return s, s.serve()
}

func (s *Server) serve() error {
	const free = "127.0.0.1:0"
	listening := make(chan string, 1)
	program := &daemon.Standalone{
		Project: daemon.Project{ID: s.projectID, Number: s.projectNumber, ClusterName: "test", ClusterLocation: "local-1", UniverseDomain: "googleapis.com"},
		Google:  daemon.Google{FakeListen: free},
		Logging: daemon.Logging{Level: "error", Format: "text"},
		Listen:  free, AdminListen: free, Credentials: daemon.Fake,
		Listening: func(clients, _ net.Addr) { listening <- clients.String() },
		Overrides: daemon.Overrides{Identity: s.callers, Google: s.fake, Tokens: func(next tokens.Source) tokens.Source {
			s.gate.next = next
			return s.gate
		}},
	}
	if err := program.Complete(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.ended <- program.Run(ctx, io.Discard) }()
	select {
	case s.Host = <-listening:
		s.URL = "http://" + s.Host
		return nil
	case err := <-s.ended:
		stop()
		return err
	}
}

// Close ends the server when the requests under way have ended.
func (s *Server) Close() error {
	s.Recover()
	s.stop()
	return <-s.ended
}

func (s *Server) env() map[string]string {
	return map[string]string{"GCE_METADATA_HOST": s.Host, "GCE_METADATA_IP": s.Host, "GCE_METADATA_ROOT": s.Host}
}

// Env leads another process to the server: Google's libraries in all languages, and
// gcloud. It is for [os/exec.Cmd.Env].
func (s *Server) Env() []string {
	var lines []string
	for name, value := range s.env() {
		lines = append(lines, name+"="+value)
	}
	slices.Sort(lines)
	return lines
}

// Client is an HTTP client all of whose connections, to whatever host, lead to the
// server: metadata.NewClient(srv.Client()) needs no environment.
func (s *Server) Client() *http.Client { return s.ClientFrom("") }

// ClientFrom is one whose connections come from an address of this machine; see [At].
func (s *Server) ClientFrom(address string) *http.Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	if address != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(address)}
	}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, s.Host)
	}}}
}

// Link links a KSA (NAMESPACE/NAME) to a GSA, as the annotation and the IAM binding
// together do. It counts from the next request on. A name that is none panics.
func (s *Server) Link(ksa, gsa string) { must(s.link(ksa, gsa)) }

func (s *Server) link(ksa, gsa string) error {
	namespace, name, err := split(ksa)
	if err != nil {
		return err
	}
	s.fake.Bind(gsa, workloadIdentityUser, daemon.FakeMember(namespace, name))
	s.callers.change(func(links map[string]string) { links[ksa] = gsa })
	return nil
}

// Unlink takes the annotation away: the KSA gets its own federated token.
func (s *Server) Unlink(ksa string) {
	_, _, err := split(ksa)
	must(err)
	s.callers.change(func(links map[string]string) { delete(links, ksa) })
}

// Unbind takes the IAM binding away, but not the annotation: requests are refused
// with 403 and the text that says which binding is missing, until [Server.Link].
func (s *Server) Unbind(ksa, gsa string) {
	namespace, name, err := split(ksa)
	must(err)
	s.fake.Unbind(gsa, workloadIdentityUser, daemon.FakeMember(namespace, name))
	s.callers.change(func(map[string]string) {})
}

const workloadIdentityUser = "roles/iam.workloadIdentityUser"

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Principal is whom an access token stands for.
type Principal struct {
	Name    string   // serviceAccount:EMAIL, or principal://... of a KSA without a GSA
	KSA     string   // NAMESPACE/NAME
	Through []string // who asked for the token first, and whom it went through
	Scopes  []string
	Expiry  time.Time
}

// ErrToken says that a token was never issued, or has expired: 401 with Google.
var ErrToken = errors.New("metadatatest: the access token is not of this server, or has expired")

// Principal says what Google's APIs would find out of an access token.
func (s *Server) Principal(token string) (Principal, error) {
	grant, ok := s.fake.Inspect(token)
	if !ok {
		return Principal{}, ErrToken
	}
	return Principal{Name: grant.Principal, KSA: grant.KSA, Through: grant.Through, Scopes: grant.Scopes, Expiry: grant.Expiry}, nil
}

// GoogleClient is an HTTP client for which the offline Google is all of Google: it
// has no network. idtoken.NewValidator takes its keys by it, and IAM Credentials
// can be asked.
func (s *Server) GoogleClient() *http.Client { return &http.Client{Transport: inProcess{s.fake}} }

// GoogleCalls is how often each method of Google was called, failed calls included.
func (s *Server) GoogleCalls() map[string]int { return s.fake.Counters() }
