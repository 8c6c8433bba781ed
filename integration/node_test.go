package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity/attest"
	"gke-metadata-emulator/integration/internal/standintest"
	"gke-metadata-emulator/integration/kubernetes"
	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/daemon"
	"gke-metadata-emulator/routing"
)

const (
	projectID     = "prod-project"
	projectNumber = "998877665544"
	pool          = "//iam.googleapis.com/projects/" + projectNumber + "/locations/global/workloadIdentityPools/on-prem"
	provider      = pool + "/providers/cluster-1"
	nodeZone      = "europe-west1-d"        // by the nodes' label
	daemonName    = "gke-metadata-emulator" // of the namespace, the KSA and the role in deploy/
)

// principal is how Google names a KSA that came through the provider.
func principal(namespace, ksa string) string {
	return "principal:" + pool + "/subject/system:serviceaccount:" + namespace + ":" + ksa
}

// cluster is the API server that all tests share. Each test has separate namespaces and
// nodes.
var cluster *kubernetes.Cluster

func TestMain(m *testing.M) {
	os.Exit(func() int {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
		defer cancel()
		var err error
		if cluster, err = kubernetes.Up(ctx, kubernetes.Config{Log: os.Stderr}); err == nil {
			defer cluster.Close()
			err = install(ctx, cluster)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "integration:", err)
			return 1
		}
		return m.Run()
	}())
}

// node is a daemon that runs in this process as main would run it.
type node struct {
	name    string
	addr    string // that pods connect to
	admin   string
	google  *fakegoogle.Running
	cluster *kubernetes.Cluster
	log     *standintest.Log
	audit   string // file
	stop    func() // and waits until everything has ended
}

// newGoogle starts an offline Google that trusts the cluster's issuer.
func newGoogle(t testing.TB, c *kubernetes.Cluster) *fakegoogle.Running {
	t.Helper()
	google := fakegoogle.Start(t, fakegoogle.Options{SharedQuotaProject: true})
	if err := google.AddGKEPool(projectID, projectNumber); err != nil {
		t.Fatal(err)
	}
	keys, err := c.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := google.AddProvider(fakegoogle.Provider{Name: provider, Issuer: c.Issuer, JWKS: keys}); err != nil {
		t.Fatal(err)
	}
	return google
}

// identityWait is longer than the default, so that a watch that lags on a busy machine
// fails no test.
const identityWait = 15 * time.Second

// settings are the settings of a node in federation mode.
func settings(t testing.TB, c *kubernetes.Cluster, google *fakegoogle.Running) *config.Serve {
	t.Helper()
	kubeconfig, err := c.KubeconfigFor(t.Context(), daemonName, daemonName)
	if err != nil {
		t.Fatal(err)
	}
	name := "node-" + strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	if _, err := c.Client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		c.Node(t, name, map[string]string{corev1.LabelTopologyZone: nodeZone})
	} else if err != nil {
		t.Fatal(err)
	}
	s := config.NewServe()
	s.Node.Name, s.Kubernetes.Kubeconfig = name, kubeconfig
	s.Listen = config.Listen{Address: "127.0.0.1:0", Admin: "127.0.0.1:0"}
	s.Routing.Mode = routing.ModeNone
	s.Attestation.Policy = string(attest.IP) // the pods of these tests are addresses
	s.Pods = config.Pods{IdentityWait: identityWait}
	s.Provider.Name = provider
	s.Project.ID, s.Project.ClusterName, s.Project.ClusterLocation = projectID, "cluster-1", "europe-west1"
	s.Google = config.Google{STS: google.URL, IAMCredentials: google.URL, IAM: google.URL}
	s.Logging = config.Logging{Level: "debug", Format: "json"}
	s.Audit.Log = filepath.Join(t.TempDir(), "audit.log")
	return s
}

// asInstalled sets the log level and the audit log as they are without flags, so cached
// tokens take the short path.
func asInstalled(s *config.Serve) { s.Logging.Level, s.Audit.Log = "info", "" }

func startNode(t testing.TB, change ...func(*config.Serve)) *node {
	t.Helper()
	return startNodeOn(t, cluster, newGoogle(t, cluster), change...)
}

func startNodeOn(t testing.TB, c *kubernetes.Cluster, google *fakegoogle.Running, change ...func(*config.Serve)) *node {
	t.Helper()
	s := settings(t, c, google)
	for _, f := range change {
		f(s)
	}
	return run(t, c, google, s)
}

func run(t testing.TB, c *kubernetes.Cluster, google *fakegoogle.Running, s *config.Serve) *node {
	t.Helper()
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	n := &node{name: s.Node.Name, google: google, cluster: c, log: new(standintest.Log), audit: s.Audit.Log}
	listening := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- daemon.Serve(ctx, s, n.log, func(pods, admin net.Addr) {
			n.addr, n.admin = pods.String(), admin.String()
			close(listening)
		})
	}()
	n.stop = sync.OnceFunc(func() {
		n.refuseTokensInPages(t)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the daemon ended with: %v", err)
		}
		n.refuseTokensInFiles(t)
		if t.Failed() {
			t.Logf("the log of %s:\n%s", n.name, n.log)
		}
	})
	select {
	case <-listening:
	case err := <-ended:
		t.Fatalf("the daemon did not start: %v", err)
	}
	t.Cleanup(n.stop)
	return n
}

// ready waits until the daemon reports that it is ready.
func (n *node) ready(t testing.TB) *node {

	t.Helper()
	eventually(t, deadline, "the daemon is ready", func() error {
		response, err := http.Get("http://" + n.admin + "/readyz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", response.Status, body)
		}
		return nil
	})
	return n
}

// metrics is the daemon's page for Prometheus.
func (n *node) metrics(t testing.TB) string {
	t.Helper()
	return n.page(t, "/metrics")
}

// page is one of the daemon's pages for its operator.
func (n *node) page(t testing.TB, path string) string {
	t.Helper()
	response, err := http.Get("http://" + n.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// pod is a client with a pod's address.
type pod struct {
	t      testing.TB
	client *http.Client
	node   *node
	ip     string
}

func (n *node) pod(t testing.TB, ip string) *pod {
	t.Helper()
	return &pod{t: t, client: kubernetes.Client(t, ip), node: n, ip: ip}
}

// reply is an unparsed answer.
type reply struct {
	status int
	header http.Header
	body   string
}

// get requests a path below /computeMetadata/v1/.
func (p *pod) get(path string) reply {
	p.t.Helper()
	r, err := p.try(path)
	if err != nil {
		p.t.Fatalf("GET %s: %v", path, err)
	}
	return r
}

func (p *pod) try(path string) (reply, error) {
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.node.addr+"/computeMetadata/v1/"+path, nil)
	if err != nil {
		return reply{}, err
	}
	request.Header.Set("Metadata-Flavor", "Google")
	response, err := p.client.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(body)}, err
}

// value requests a path that must be answered with 200.
func (p *pod) value(path string) string {
	p.t.Helper()
	r := p.get(path)
	if r.status != http.StatusOK {
		p.t.Fatalf("GET %s from %s: %d: %s", path, p.ip, r.status, r.body)
	}
	return r.body
}

func (p *pod) email() string {
	p.t.Helper()
	return p.value("instance/service-accounts/default/email")
}

// grant requests an access token and returns what Google reports about it.
func (p *pod) grant() fakegoogle.Grant {
	p.t.Helper()
	return p.node.inspect(p.t, p.value("instance/service-accounts/default/token"))
}

// inspect returns what Google reports about the token in an answer.
func (n *node) inspect(t testing.TB, body string) fakegoogle.Grant {
	t.Helper()
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
		TokenType   string `json:"token_type"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("token answer: %v", err)
	}
	if answer.ExpiresIn < 300 || answer.TokenType != "Bearer" {
		t.Errorf("token answer: expires_in %d, token_type %q", answer.ExpiresIn, answer.TokenType)
	}
	grant, ok := n.google.Inspect(answer.AccessToken)
	if !ok {
		t.Fatal("the token is unknown to Google")
	}
	return grant
}

// link makes a GSA that the KSA may use.
func (n *node) link(namespace, ksa, gsa string) {
	n.google.Bind(gsa, "roles/iam.workloadIdentityUser", principal(namespace, ksa))
}

// deadline bounds how long a test waits for something that happens outside its control.
// It is generous: a busy machine is slow, and a test that passes does not wait for it.
const deadline = 2 * time.Minute

// eventually retries f until it returns no error, and returns how long that took.
func eventually(t testing.TB, within time.Duration, condition string, f func() error) time.Duration {
	t.Helper()
	start := time.Now()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := f()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > within {
			t.Fatalf("%s: not within %s: %v", condition, within, err)
		}
		<-ticker.C
	}
}

func writeFile(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// connections are the established connections to the daemon, as the kernel lists
// them: one "IP:PORT" of a client a line.
func (n *node) connections(t testing.TB) string {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(n.addr)
	var found strings.Builder
	for line := range strings.SplitSeq(string(table), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[3] != "01" { // established
			continue
		}
		if local, remote := hexAddress(fields[1]), hexAddress(fields[2]); strings.HasSuffix(local, ":"+port) {
			fmt.Fprintln(&found, remote)
		}
	}
	return found.String()
}

// hexAddress reads an address of /proc/net/tcp (proc(5)): the IP in the byte order
// of the machine, which is little-endian on all that Go's race detector runs on here.
func hexAddress(s string) string {
	var ip [4]byte
	var port uint16
	if _, err := fmt.Sscanf(s, "%2x%2x%2x%2x:%4x", &ip[3], &ip[2], &ip[1], &ip[0], &port); err != nil {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d.%d:%d", ip[0], ip[1], ip[2], ip[3], port)
}
