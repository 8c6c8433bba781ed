package clients

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

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
	zone          = "europe-west1-b"
	pool          = "//iam.googleapis.com/projects/" + projectNumber + "/locations/global/workloadIdentityPools/on-prem"
	provider      = pool + "/providers/cluster-1"
	writer        = "writer@" + projectID + ".iam.gserviceaccount.com"
	daemonName    = "gke-metadata-emulator" // of the namespace, the KSA and the role in deploy/
)

// project is the project that both of the server's programs report.
var project = config.Project{ID: projectID, Number: projectNumber, ClusterName: "cluster-1", ClusterLocation: "europe-west1", Zone: zone, UniverseDomain: "googleapis.com"}

var freePorts = config.Listen{Address: "127.0.0.1:0", Admin: "127.0.0.1:0"}

var logging = config.Logging{Level: "debug", Format: "json"}

// metadataServer is the server as a client has it before it.
type metadataServer struct {
	address string
	podIP   string // from which it expects the client
	gsa     string // that the client is
	google  *google
	log     *standintest.Log

	early *corev1.Pod // has no address yet; nil otherwise
	admin string      // address of the metrics of serve
}

// running starts one of the server's programs and returns when it listens.
func (m *metadataServer) running(t testing.TB, run func(context.Context, *standintest.Log) error, listening <-chan net.Addr) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, m.log) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with: %v", err)
		}
		accesses(t, m.log.String())
		if t.Failed() {
			t.Logf("the server's log:\n%s", without(m.log, `"reflector"`))
		}
	})
	select {
	case at := <-listening:
		m.address = at.String()
	case err := <-ended:
		t.Fatalf("the server did not start: %v", err)
	}
	t.Cleanup(stop)
}

var cluster *kubernetes.Cluster // that all tests share

// podIPs gives each pod a separate address.
var podIPs atomic.Int32

// serveOptions is how a test wants the daemon of a node.
type serveOptions struct {
	tokenLife time.Duration // lifetime of Google's tokens; default: an hour
	early     bool          // the server has just begun to listen, and the pod has no address yet
}

// startServe runs the daemon of a node, with a pod whose KSA is linked to a GSA.
func startServe(t testing.TB, o serveOptions) *metadataServer {
	t.Helper()
	fake := fakegoogle.Start(t, fakegoogle.Options{TokenLifetime: o.tokenLife})
	keys, err := cluster.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := fake.AddProvider(fakegoogle.Provider{Name: provider, Issuer: cluster.Issuer, JWKS: keys}); err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := cluster.KubeconfigFor(t.Context(), daemonName, daemonName)
	if err != nil {
		t.Fatal(err)
	}
	n := podIPs.Add(1)
	m := &metadataServer{podIP: fmt.Sprintf("127.0.%d.%d", 10+n/250, 1+n%250), gsa: writer, log: new(standintest.Log)}
	m.google = newGoogle(t, fake.URL, "serviceAccount:"+writer)
	namespace, node := cluster.Namespace(t, "team-"), fmt.Sprintf("node-%d", n)
	cluster.KSA(t, namespace, "app", map[string]string{"iam.gke.io/gcp-service-account": writer})
	fake.Bind(writer, "roles/iam.workloadIdentityUser", "principal:"+pool+"/subject/system:serviceaccount:"+namespace+":app")
	spec := kubernetes.PodSpec{Namespace: namespace, Name: "app", KSA: "app", Node: node, IP: m.podIP}
	if o.early {
		spec.IP = ""
	}
	pod := cluster.RunPod(t, spec)

	listening := make(chan net.Addr, 1)
	s := config.NewServe()
	s.Node.Name, s.Kubernetes.Kubeconfig = node, kubeconfig
	s.Listen, s.Project, s.Logging = freePorts, project, logging
	s.Routing.Mode, s.Attestation.Policy = routing.ModeNone, string(attest.IP)
	s.Pods.Events, s.Pods.Prefetch = false, false
	s.Provider.Name = provider
	s.Google = config.Google{STS: fake.URL, IAMCredentials: fake.URL, IAM: fake.URL}
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	m.running(t, func(ctx context.Context, log *standintest.Log) error {
		return daemon.Serve(ctx, s, log, func(pods, operators net.Addr) {
			m.admin = operators.String()
			listening <- pods
		})
	}, listening)
	if o.early {
		m.early = pod
		return m
	}
	eventually(t, 20*time.Second, "the daemon is ready", func() error {
		_, err := m.get("/readyz")
		return err
	})
	return m
}

// get returns a page of the operators' listener.
func (m *metadataServer) get(path string) (string, error) {
	response, err := http.Get("http://" + m.admin + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, response.Status)
	}
	return string(body), err
}

// holding is a gauge that is not zero.
var holding = regexp.MustCompile(`(?m)^gme_http_requests_in_flight [1-9]`)

// holds returns no error when requests wait for their answers.
func (m *metadataServer) holds() error {
	metrics, err := m.get("/metrics")
	if err == nil && !holding.MatchString(metrics) {
		err = errors.New("no request is in flight")
	}
	return err
}

// startStandalone runs the server that needs no cluster, with its own offline Google.
func startStandalone(t testing.TB) *metadataServer {
	t.Helper()
	m := &metadataServer{podIP: "127.0.0.1", gsa: "demo@" + projectID + ".iam.gserviceaccount.com", log: new(standintest.Log)}
	listening := make(chan net.Addr, 1)
	s := config.NewStandalone()
	s.Listen, s.Project, s.Logging = freePorts, project, logging
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	m.running(t, func(ctx context.Context, log *standintest.Log) error {
		return daemon.Standalone(ctx, s, daemon.Overrides{}, log, func(clients, _ net.Addr) { listening <- clients })
	}, listening)
	m.google = newGoogle(t, m.fakeURL(t), "serviceAccount:"+m.gsa)
	return m
}

// fakeURL is the address of the built-in offline Google, which the log reports.
func (m *metadataServer) fakeURL(t testing.TB) string {
	t.Helper()
	for text := range strings.SplitSeq(m.log.String(), "\n") {
		var line struct {
			Message string `json:"msg"`
			URL     string `json:"url"`
		}
		if json.Unmarshal([]byte(text), &line) == nil && strings.Contains(line.Message, "fake Google") {
			return line.URL
		}
	}
	t.Fatal("the log does not report the address of the built-in offline Google")
	return ""
}

// eventually retries until there is no error. It waits for something outside this
// process's control.
func eventually(t testing.TB, within time.Duration, condition string, f func() error) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for start := time.Now(); ; <-ticker.C {
		err := f()
		if err == nil {
			return
		}
		if time.Since(start) > within {
			t.Fatalf("%s: not within %s: %v", condition, within, err)
		}
	}
}
