package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/integration/internal/checkout"
	"gke-metadata-emulator/integration/internal/standintest"
	"gke-metadata-emulator/integration/kubernetes"
	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/facts"
)

// When the daemon has ended, no goroutine of it is left.
func TestDaemon_LeavesNoGoroutine(t *testing.T) {
	google := newGoogle(t, cluster)
	before := goleak.IgnoreCurrent()
	for _, credentials := range []string{config.Federation, config.Fake} {
		n := startNodeOn(t, cluster, google, func(s *config.Serve) {
			if s.Credentials.Kind = credentials; credentials == config.Fake {
				s.Provider.Name, s.Google = "", config.Google{}
			}
		}).ready(t)
		ns := cluster.Namespace(t, "team-")
		p := cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "default", Node: n.name, IP: "127.0.1.1"})
		app := n.pod(t, "127.0.1.1")
		eventually(t, deadline, "a token", func() error {
			if got := app.get(tokenPath); got.status != http.StatusOK {
				return fmt.Errorf("%d %s", got.status, got.body)
			}
			return nil
		})
		cluster.DeletePod(t, p)
		n.stop()
		app.client.CloseIdleConnections()
	}
	http.DefaultClient.CloseIdleConnections()
	eventually(t, deadline, "no goroutine of the daemon is left", func() error {
		return goleak.Find(before,
			// Connections of the tests to the API server, and of the fake Google to the daemon.
			goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"))
	})
}

// The program itself, as a DaemonSet runs it: SIGTERM lets the request under way
// end and closes the door to new ones.
func TestSIGTERM_DrainsRequests(t *testing.T) {
	google := newGoogle(t, cluster)
	ns := cluster.Namespace(t, "team-")
	cluster.KSA(t, ns, "app", annotated(writer))
	google.Bind(writer, "roles/iam.workloadIdentityUser", principal(ns, "app"))
	s := settings(t, cluster, google)
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "app", Node: s.Node.Name, IP: "127.0.1.1"})

	program, ended, n := start(t, google, s)
	n.ready(t)

	google.SetFault(fakegoogle.MethodGenerateAccessToken, fakegoogle.Fault{Latency: time.Second})
	answer := make(chan reply, 1)
	go func() {
		r, err := n.pod(t, "127.0.1.1").try(tokenPath)
		if err != nil {
			r.body = err.Error()
		}
		answer <- r
	}()
	eventually(t, deadline, "Google has been asked", func() error {
		if google.Counters()[fakegoogle.MethodGenerateAccessToken] == 0 {
			return errors.New("no call")
		}
		return nil
	})
	if err := program.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, deadline, "new connections are refused", func() error {
		if _, err := n.pod(t, "127.0.1.1").try("project/project-id"); errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		return errors.New("still answered")
	})
	if got := <-answer; got.status != http.StatusOK || n.inspect(t, got.body).Principal != "serviceAccount:"+writer {
		t.Errorf("the request under way: %d %s", got.status, got.body)
	}
	if err := <-ended; err != nil {
		t.Errorf("the program ended with %v:\n%s", err, n.log)
	}
	refuseTokens(t, "the log", n.log.String())
}

// start starts the program as a node's daemon, and waits until it listens. The channel gets
// the error with which the program ends.
func start(t testing.TB, google *fakegoogle.Running, s *config.Serve, args ...string) (*exec.Cmd, <-chan error, *node) {
	t.Helper()
	program := exec.Command(binary(t), append([]string{"serve", "--node-name", s.Node.Name, "--kubeconfig", s.Kubernetes.Kubeconfig, "--routing", "none", "--attestation", "ip",
		"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--workload-identity-provider", provider,
		"--sts-endpoint", google.URL, "--iam-credentials-endpoint", google.URL, "--log-format", "json"}, args...)...)
	// Every other setting comes from the environment.
	program.Env = append(os.Environ(), "GME_PROJECT_ID="+projectID, "GME_LOG_LEVEL=debug")
	log := new(standintest.Log)
	program.Stderr = log
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- program.Wait() }()
	t.Cleanup(func() { _ = program.Process.Kill() })
	n := &node{name: s.Node.Name, google: google, cluster: cluster, log: log}
	eventually(t, deadline, "the program listens", func() error {
		line := grep(strings.ReplaceAll(log.String(), `{"time`, "\n"+`{"time`), `{"time`)
		if !strings.Contains(line, `"msg":"serving"`) {
			return errors.New(line)
		}
		n.addr, n.admin = field(line, `"listen":"`), field(line, `"admin":"`)
		return nil
	})
	return program, ended, n
}

// field returns the text between prefix and the next quote.
func field(line, prefix string) string {
	_, after, _ := strings.Cut(line, prefix)
	value, _, _ := strings.Cut(after, `"`)
	return value
}

// binary builds the program as the Makefile and the Dockerfile do.
func binary(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gke-metadata-emulator")
	if err := checkout.BuildProduct(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	return path
}

// The API server is down when the daemon starts, and becomes unavailable later.
func TestAPIServerOutage(t *testing.T) {
	own := kubernetes.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := install(ctx, own); err != nil {
		t.Fatal(err)
	}
	google := newGoogle(t, own)
	ns := own.Namespace(t, "team-")
	own.KSA(t, ns, "app", annotated(writer))
	google.Bind(writer, "roles/iam.workloadIdentityUser", principal(ns, "app"))
	s := settings(t, own, google)
	s.Pods.IdentityWait = 3 * time.Second // longer than any answer that does not wait
	own.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "app", Node: s.Node.Name, IP: "127.0.1.1"})
	if err := own.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	n := run(t, own, google, s)

	// Keys that need no identity are answered at once. Others wait and are answered with 503.
	app := n.pod(t, "127.0.1.1")
	start := time.Now()
	for _, path := range []string{"project/project-id", "project/numeric-project-id", "instance/id", "instance/attributes/cluster-name"} {
		app.value(path)
	}
	if took := time.Since(start); took >= s.Pods.IdentityWait {
		t.Errorf("static keys took %s without the API server", took)
	}
	if got := app.get(tokenPath); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("token: %d %v %s", got.status, got.header, got.body)
	}
	for _, path := range []string{"instance/zone", "instance/hostname", "instance/attributes/cluster-uid"} {
		if got := app.get(path); got.status != http.StatusServiceUnavailable {
			t.Errorf("%s, which only the API server knows: %d %s", path, got.status, got.body)
		}
	}
	if response, err := http.Get("http://" + n.admin + "/readyz"); err != nil {
		t.Error(err)
	} else {
		_, _ = io.Copy(io.Discard, response.Body)
		if response.Body.Close(); response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("ready without the API server: %s", response.Status)
		}
	}

	if err := own.StartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	took := eventually(t, deadline, "a token after the API server is back", func() error {
		if got := app.get(tokenPath); got.status != http.StatusOK {
			return fmt.Errorf("%d %s", got.status, got.body)
		}
		return nil
	})
	t.Logf("a token %s after the API server was back", took.Round(time.Millisecond))
	system, err := own.Client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"instance/attributes/cluster-uid": facts.ClusterUID(string(system.UID)),
		"instance/zone":                   "projects/" + projectNumber + "/zones/" + nodeZone,
		"instance/hostname":               n.name + "." + nodeZone + ".c." + projectID + ".internal",
	} {
		eventually(t, deadline, path, func() error {
			if got := app.get(path); got.body != want {
				return fmt.Errorf("%d %s", got.status, got.body)
			}
			return nil
		})
	}

	// When the API server hangs or is down, pods keep their identity on open and new connections.
	for _, outage := range []struct {
		name       string
		begin, end func() error
	}{
		{"hangs", own.PauseAPIServer, own.ResumeAPIServer},
		{"is down", own.StopAPIServer, func() error { return own.StartAPIServer(ctx) }},
	} {
		if err := outage.begin(); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			start := time.Now()
			if got := n.pod(t, "127.0.1.1").grant().Principal; got != "serviceAccount:"+writer {
				t.Errorf("while the API server %s: %s", outage.name, got)
			}
			if took := time.Since(start); took >= s.Pods.IdentityWait {
				t.Errorf("while the API server %s: connection %d took %s for a token, as long as if it waited for the API server", outage.name, i, took)
			}
		}
		if err := outage.end(); err != nil {
			t.Fatal(err)
		}
	}
}
