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
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

var update = flag.Bool("update", false, "write testdata from what the server answers")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	accounts  = root + "/instance/service-accounts"
	testGSA   = "cart@demo-project.iam.gserviceaccount.com"
	testPool  = "demo-project.svc.id.goog"
	principal = "principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/" + testPool + "/subject/ns/shop/sa/cart"

	accessSecret = "ya29.secret-access-token"
	idSecret     = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJzZWNyZXQifQ.c2VjcmV0"
)

// now is where the tests' clock stands.
var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var testFacts = Facts{
	ProjectID: "demo-project", NumericProjectID: "123456789012", WorkloadPool: testPool, UniverseDomain: "googleapis.com",
	InstanceID: "5534023222112865485", Hostname: "node-1.europe-west1-b.c.demo-project.internal", Zone: "europe-west1-b",
	ClusterName: "demo", ClusterLocation: "europe-west1", ClusterUID: "6c1e0d6c-3f2b-4b5e-9a1d-2f7c8e9d0a1b",
}

// world is the cluster and the Google of a test: one pod, what its KSA says, its
// tokens. The functions, where set, are asked first and may fail or wait.
type world struct {
	workload identity.Workload
	life     time.Duration // of the access token
	pod      func(context.Context) error
	ksa      func() error
	token    func(context.Context) error

	pods, workloads atomic.Int32 // times asked

	mu          sync.Mutex
	changed     chan struct{}
	connections []identity.Connection
	scopes      []tokens.Scopes
	idTokens    []tokens.IDTokenRequest
}

func linked() *world {
	return &world{life: 3599 * time.Second, workload: identity.Workload{
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
	if w.pod != nil {
		if err := w.pod(ctx); err != nil {
			return identity.Pod{}, err
		}
	}
	return w.workload.Pod, nil
}

func (w *world) Workload(_ context.Context, pod identity.Pod) (identity.Workload, error) {
	defer w.workloads.Add(1) // when it has been read: a test may change it then
	if pod != w.workload.Pod {
		return identity.Workload{}, fmt.Errorf("asked for the pod %v", pod)
	}
	if w.ksa != nil {
		if err := w.ksa(); err != nil {
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

// awaitWaiter returns when a request has looked and waits for a change: it takes the
// channel first and looks then.
func (w *world) awaitWaiter(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for w.workloads.Load() == 0 {
		if time.Now().After(deadline) {
			t.Fatal("no request has looked")
		}
		runtime.Gosched()
	}
}

// annotate changes what the KSA says, as the cluster's watch would.
func (w *world) annotate(gsa string) {
	w.mu.Lock()
	w.workload.GSA = gsa
	w.mu.Unlock()
	w.event()
}

// event is one of the watch.
func (w *world) event() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

func (w *world) AccessToken(ctx context.Context, of identity.Workload, scopes tokens.Scopes) (tokens.Token, error) {
	w.mu.Lock()
	w.scopes = append(w.scopes, scopes)
	w.mu.Unlock()
	return w.mint(ctx, of, accessSecret, w.life)
}

func (w *world) IDToken(ctx context.Context, of identity.Workload, r tokens.IDTokenRequest) (tokens.Token, error) {
	w.mu.Lock()
	w.idTokens = append(w.idTokens, r)
	w.mu.Unlock()
	if of.GSA == "" {
		return tokens.Token{}, &tokens.Error{Kind: tokens.NotLinked, Message: "Your Kubernetes service account (shop/cart) is not annotated"}
	}
	return w.mint(ctx, of, idSecret, time.Hour)
}

func (w *world) mint(ctx context.Context, of identity.Workload, value string, life time.Duration) (tokens.Token, error) {
	if of != w.workload {
		return tokens.Token{}, fmt.Errorf("asked for the workload %v", of)
	}
	if w.token != nil {
		if err := w.token(ctx); err != nil {
			return tokens.Token{}, err
		}
	}
	return tokens.NewToken(value, now.Add(life)), nil
}

// running is a server that listens on loopback.
type running struct {
	address  string
	registry *prometheus.Registry
	log      *buffer
	stop     func() error // ends it and says what Serve returned
}

// serve starts a server for the life of the test, which fails when Serve does.
func serve(t *testing.T, w *world, change ...func(*Options)) *running {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, listener, w, change...)
}

func serveOn(t *testing.T, listener net.Listener, w *world, change ...func(*Options)) *running {
	t.Helper()
	r := &running{address: listener.Addr().String(), registry: prometheus.NewRegistry(), log: &buffer{}}
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

// get is a request as a client of Google's sends it; headers are whole lines.
func get(path string, headers ...string) string {
	return bare("GET "+path, append([]string{"Metadata-Flavor: Google"}, headers...)...)
}

// bare is a request with the headers given and no other but Host.
func bare(methodAndTarget string, headers ...string) string {
	lines := append([]string{methodAndTarget + " HTTP/1.1", "Host: metadata.google.internal"}, headers...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// reply is an answer, read and raw.
type reply struct {
	*http.Response
	body string
	raw  string // every byte
}

// ask sends a request on a connection of its own.
func (r *running) ask(t *testing.T, request string) reply {
	t.Helper()
	return r.dial(t).ask(t, request)
}

// client is a connection that is kept alive.
type client struct {
	net.Conn
	reader *bufio.Reader
	seen   bytes.Buffer
}

func (r *running) dial(t *testing.T) *client {
	t.Helper()
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	c := &client{Conn: conn}
	c.reader = bufio.NewReader(io.TeeReader(conn, &c.seen))
	return c
}

func (c *client) ask(t *testing.T, request string) reply {
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

// expect fails the test where the status is another one.
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

// keys are the paths of the endpoint table, those of accounts under a name.
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

// with the parameters that a key needs.
func asked(path string) string {
	if strings.HasSuffix(path, "/identity") {
		return path + "?audience=https://shop.example"
	}
	return path
}

func who(reason identity.Reason) error {
	return &identity.Error{Reason: reason, Message: "what the identity says of " + string(reason)}
}

func noToken(kind tokens.Kind, retryAfter time.Duration) error {
	return &tokens.Error{Kind: kind, Message: "what Google says of " + string(kind), RetryAfter: retryAfter}
}

// always fails with err.
func always(err error) func(context.Context) error { return func(context.Context) error { return err } }

// buffer is a [bytes.Buffer] for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// eventually waits for what another goroutine does.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time: " + what)
		}
	}
}
