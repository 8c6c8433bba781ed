package server

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/principal"
	"gke-metadata-emulator/tokens"
)

var update = flag.Bool("update", false, "write testdata from the responses of the server")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	accounts      = root + "/instance/service-accounts"
	testGSA       = "cart@demo-project.iam.gserviceaccount.com"
	testPool      = "demo-project.svc.id.goog"
	testPrincipal = "principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/" + testPool + "/subject/ns/shop/sa/cart"

	accessSecret = "ya29.secret-access-token"
	idSecret     = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJzZWNyZXQifQ.c2VjcmV0"
)

// now is the fixed time of the tests' clock.
var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var testFacts = Facts{
	ProjectID: "demo-project", NumericProjectID: "123456789012", Names: principal.Names{GKEPool: testPool, ProjectNumber: "123456789012"}, UniverseDomain: "googleapis.com",
	InstanceID: "5534023222112865485", NodeName: "node-1", Hostname: "node-1.europe-west1-b.c.demo-project.internal", Zone: "europe-west1-b",
	ClusterName: "demo", ClusterLocation: "europe-west1", ClusterUID: "6c1e0d6c3f2b4b5e9a1d2f7c8e9d0a1b6c1e0d6c3f2b4b5e9a1d2f7c8e9d0a1b",
}

// world is the cluster and the Google of a test: one pod, the settings of its KSA, and
// its tokens. Each hook that is set runs first in its method; it can fail or wait.
type world struct {
	workload      identity.Workload
	tokenLifetime time.Duration // of the access token
	onPod         func(context.Context) error
	onWorkload    func(context.Context) error
	onToken       func(context.Context) error

	pods, workloads atomic.Int32 // lookups

	mu          sync.Mutex
	changed     chan struct{}
	connections []identity.Connection
	scopes      []tokens.Scopes         // of each access token
	idTokens    []tokens.IDTokenRequest // of each ID token
}

func linked() *world {
	return &world{tokenLifetime: 3599 * time.Second, workload: identity.Workload{
		Pod: identity.Pod{Namespace: "shop", Name: "cart-0", UID: "pod-uid"},
		KSA: identity.ServiceAccount{Namespace: "shop", Name: "cart", UID: "ksa-uid"},
		GSA: testGSA,
	}}
}

func (w *world) Pod(ctx context.Context, c identity.Connection) (identity.Pod, error) {
	w.pods.Add(1)
	w.mu.Lock()
	w.connections = append(w.connections, c)
	w.mu.Unlock()
	if w.onPod != nil {
		if err := w.onPod(ctx); err != nil {
			return identity.Pod{}, err
		}
	}
	return w.workload.Pod, nil
}

func (w *world) Workload(ctx context.Context, pod identity.Pod) (identity.Workload, error) {
	defer w.workloads.Add(1) // after the read: from then on a test can change the workload
	if pod != w.workload.Pod {
		return identity.Workload{}, fmt.Errorf("unexpected pod %v", pod)
	}
	if w.onWorkload != nil {
		if err := w.onWorkload(ctx); err != nil {
			return identity.Workload{}, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.workload, nil
}

func (w *world) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed
}

// awaitWaiter returns when a request waits for a change. A request takes the channel of
// changes before it reads the workload.
func (w *world) awaitWaiter(t *testing.T) {
	t.Helper()
	eventually(t, "a request has read the workload", func() bool { return w.workloads.Load() > 0 })
}

// annotate changes the KSA's annotation, as the cluster's watch would.
func (w *world) annotate(gsa string) {
	w.mu.Lock()
	w.workload.GSA = gsa
	w.mu.Unlock()
	w.event()
}

// event signals a change, as the cluster's watch would.
func (w *world) event() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

func (w *world) AccessToken(ctx context.Context, workload identity.Workload, scopes tokens.Scopes) (tokens.Token, error) {
	w.mu.Lock()
	w.scopes = append(w.scopes, scopes)
	w.mu.Unlock()
	return w.mint(ctx, workload, accessSecret, w.tokenLifetime)
}

func (w *world) IDToken(ctx context.Context, workload identity.Workload, r tokens.IDTokenRequest) (tokens.Token, error) {
	w.mu.Lock()
	w.idTokens = append(w.idTokens, r)
	w.mu.Unlock()
	if workload.GSA == "" {
		return tokens.Token{}, &tokens.Error{Kind: tokens.NotLinked, Message: "Your Kubernetes service account (shop/cart) is not annotated"}
	}
	return w.mint(ctx, workload, idSecret, time.Hour)
}

func (w *world) mint(ctx context.Context, workload identity.Workload, value string, lifetime time.Duration) (tokens.Token, error) {
	if workload != w.workload {
		return tokens.Token{}, fmt.Errorf("unexpected workload %v", workload)
	}
	if w.onToken != nil {
		if err := w.onToken(ctx); err != nil {
			return tokens.Token{}, err
		}
	}
	return tokens.NewToken(value, now.Add(lifetime)), nil
}

// testServer is a server on loopback.
type testServer struct {
	address  string
	registry *prometheus.Registry
	log      *syncBuffer
	stop     func() error // stops the server and returns the result of Serve
}

// serve runs a server until the end of the test, which fails if Serve does.
func serve(t *testing.T, w *world, change ...func(*Options)) *testServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, listener, w, change...)
}

func serveOn(t *testing.T, listener net.Listener, w *world, change ...func(*Options)) *testServer {
	t.Helper()
	r := &testServer{address: listener.Addr().String(), registry: prometheus.NewRegistry(), log: &syncBuffer{}}
	o := Options{
		Identity: w, Tokens: w, Facts: func() Facts { return testFacts }, Now: func() time.Time { return now }, Metrics: r.registry,
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- New(o).Serve(ctx, listener) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return r
}

// get is a request with the header that Google's clients send; headers are whole lines.
func get(path string, headers ...string) string {
	return bare("GET "+path, append([]string{"Metadata-Flavor: Google"}, headers...)...)
}

// bare is a request with the given headers and Host only.
func bare(methodAndTarget string, headers ...string) string {
	lines := append([]string{methodAndTarget + " HTTP/1.1", "Host: metadata.google.internal"}, headers...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// reply is a response as the client received it.
type reply struct {
	*http.Response
	body string
	raw  string // every byte of the response
}

// do sends a request on a new connection.
func (r *testServer) do(t *testing.T, request string) reply {
	t.Helper()
	return r.dial(t).do(t, request)
}

// client is one connection to the server.
type client struct {
	net.Conn
	reader *bufio.Reader
	seen   bytes.Buffer // bytes of the current response
}

func (r *testServer) dial(t *testing.T) *client {
	t.Helper()
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	c := &client{Conn: conn}
	c.reader = bufio.NewReader(io.TeeReader(conn, &c.seen))
	return c
}

func (c *client) do(t *testing.T, request string) reply {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return c.read(t, request)
}

func (c *client) read(t *testing.T, request string) reply {
	t.Helper()
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(c.reader, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s: %v", firstLine(request), err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s: %v", firstLine(request), err)
	}
	raw := c.seen.String()
	c.seen.Reset()
	return reply{response, string(body), raw}
}

// expect fails the test if the status differs.
func (r reply) expect(t *testing.T, status int) reply {
	t.Helper()
	if r.StatusCode != status {
		t.Errorf("status %d, want %d; body %q", r.StatusCode, status, r.body)
	}
	return r
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\r\n")
	return line
}

// keys are the paths of the endpoint table; account is used as the name of accounts.
func keys(account string) []string {
	var paths []string
	for _, e := range New(Options{}).endpoints() {
		if e.attributes != nil {
			continue // GKE has none
		}
		paths = append(paths, root+"/"+strings.Replace(e.path, accountSegment, account, 1))
	}
	return paths
}

// withQuery adds the parameters that a key requires.
func withQuery(path string) string {
	if strings.HasSuffix(path, "/identity") {
		return path + "?audience=https://shop.example"
	}
	return path
}

func identityError(reason identity.Reason) error {
	return &identity.Error{Reason: reason, Message: "what the identity says of " + string(reason)}
}

func tokenError(kind tokens.Kind, retryAfter time.Duration) error {
	return &tokens.Error{Kind: kind, Message: "what Google says of " + string(kind), RetryAfter: retryAfter}
}

// failWith is a hook that fails.
func failWith(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

// syncBuffer is a [bytes.Buffer] for concurrent use.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// patience is how long a test waits for another goroutine before it fails. A test that
// passes never waits for this long, however busy the machine is.
const patience = 2 * time.Minute

// eventually waits for another goroutine.
func eventually(t *testing.T, condition string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not true after %s: %s", patience, condition)
		}
	}
}
