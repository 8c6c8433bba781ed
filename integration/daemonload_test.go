package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/kubernetes"
	"gke-metadata-emulator/internal/podtest"
)

// audited is a cluster that notes each request of the daemon's, and counts the bytes
// that it is sent.
type audited struct {
	*kubernetes.Cluster
	t          testing.TB
	google     *fakegoogle.Running
	log        string
	kubeconfig string
	sent       atomic.Int64 // to the daemon, including the overhead of TLS
	binary     string
	node, ns   string
	cgroups    podtest.Cgroup
	home       string // the cgroup of this process
}

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [ResponseStarted, ResponseComplete]
rules:
- level: Metadata
  users: ["system:serviceaccount:` + daemonName + ":" + daemonName + `"]
- level: None
`

func newAudited(t testing.TB) *audited {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a Kubernetes API server; not with -short")
	}
	a := &audited{t: t, node: "node-load", log: filepath.Join(t.TempDir(), "audit.log"), cgroups: podtest.NewCgroup(t), binary: binary(t)}
	policy := writeFile(t, "policy.yaml", []byte(auditPolicy))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var err error
	a.Cluster, err = kubernetes.Up(ctx, kubernetes.Config{APIServerFlags: []string{"--audit-policy-file=" + policy, "--audit-log-path=" + a.log}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := install(ctx, a.Cluster); err != nil {
		t.Fatal(err)
	}
	a.google = newGoogle(t, a.Cluster)
	a.Node(t, a.node, map[string]string{corev1.LabelTopologyZone: nodeZone})
	a.ns = a.Namespace(t, "team-")
	a.countBytes()
	a.cgroups.NewChild(t, "kubepods") // as the kubelet makes it
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, home, _ := strings.Cut(string(own), "0::")
	home, _, _ = strings.Cut(home, "\n")
	a.home = filepath.Join(filepath.Dir(string(a.cgroups)), home) // a.cgroups is at the top
	return a
}

// countBytes puts a program that counts between the daemon and the API server.
func (a *audited) countBytes() {
	a.t.Helper()
	server, err := url.Parse(a.Config.Host)
	if err != nil {
		a.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			daemon, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", server.Host)
			if err != nil {
				_ = daemon.Close()
				continue
			}
			go func() {
				_, _ = io.Copy(server, daemon)
				_ = server.Close()
			}()
			go func() {
				_, _ = io.Copy(counting{daemon, &a.sent}, server)
				_ = daemon.Close()
			}()
		}
	}()
	path, err := a.KubeconfigFor(a.t.Context(), daemonName, daemonName)
	if err != nil {
		a.t.Fatal(err)
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, c := range config.Clusters {
		c.Server = "https://" + listener.Addr().String()
	}
	a.kubeconfig = filepath.Join(a.t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, a.kubeconfig); err != nil {
		a.t.Fatal(err)
	}
}

type counting struct {
	io.Writer
	n *atomic.Int64
}

func (c counting) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return c.Writer.Write(b)
}

// requests are those of the daemon so far: verb and resource, with how many.
func (a *audited) requests() map[string]int {
	a.t.Helper()
	f, err := os.Open(a.log)
	if err != nil {
		a.t.Fatal(err)
	}
	defer f.Close()
	all := map[string]int{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var entry struct {
			Verb      string
			ObjectRef struct{ Resource, Subresource string }
		}
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			continue // the last line, half written
		}
		all[strings.TrimSuffix(entry.Verb+" "+entry.ObjectRef.Resource+"/"+entry.ObjectRef.Subresource, "/")]++
	}
	return all
}

// since counts the requests that were added between two counts.
func since(before, after map[string]int) (total int, each string) {
	var all []string
	for request, n := range after {
		if n -= before[request]; n > 0 {
			total += n
			all = append(all, fmt.Sprintf("%d %s", n, request))
		}
	}
	slices.Sort(all)
	return total, strings.Join(all, ", ")
}

// elsewhere makes KSAs in namespaces without pods of this node, up to a number.
func (a *audited) elsewhere(from, to int) {
	a.t.Helper()
	const each = 100
	g, ctx := errgroup.WithContext(a.t.Context())
	g.SetLimit(8)
	for i := from; i < to; i++ {
		name := fmt.Sprintf("elsewhere-%d", i/each)
		if i%each == 0 {
			if _, err := a.Client.CoreV1().Namespaces().Create(ctx, namespaceObject(name), metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
				a.t.Fatal(err)
			}
		}
		g.Go(func() error {
			_, err := a.Client.CoreV1().ServiceAccounts(name).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{
				Name: fmt.Sprintf("ksa-%d", i), Annotations: map[string]string{identity.AnnotationGSA: fmt.Sprintf("gsa-%d@%s.iam.gserviceaccount.com", i, projectID)},
			}}, metav1.CreateOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		a.t.Fatal(err)
	}
}

// measured is a daemon in a separate process, as on a node.
type measured struct {
	pid           int
	listen, admin string
	stop          func()
}

func (a *audited) start(more ...string) *measured {
	a.t.Helper()
	cmd := exec.Command(a.binary, append([]string{
		"serve", "--node-name", a.node, "--kubeconfig", a.kubeconfig, "--routing", "none", "--attestation", "require", "--cgroup-root", string(a.cgroups),
		"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--project-id", projectID, "--workload-identity-provider", provider,
		"--sts-endpoint", a.google.URL, "--iam-credentials-endpoint", a.google.URL, "--log-format", "json",
	}, more...)...)
	log, err := cmd.StderrPipe()
	if err != nil {
		a.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	m := &measured{pid: cmd.Process.Pid, stop: func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}}
	a.t.Cleanup(m.stop)
	var output bytes.Buffer
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		fmt.Fprintln(&output, lines.Text())
		if strings.Contains(lines.Text(), `"msg":"serving"`) {
			m.listen, m.admin = field(lines.Text(), `"listen":"`), field(lines.Text(), `"admin":"`)
			break
		}
	}
	if m.listen == "" {
		a.t.Fatalf("the daemon does not serve:\n%s", &output)
	}
	go func() { _, _ = io.Copy(io.Discard, log) }()
	// All that it reads when it starts has been read.
	client := kubernetes.Client(a.t, "127.0.0.1")
	for _, url := range []string{"http://" + m.admin + "/readyz", "http://" + m.listen + "/computeMetadata/v1/instance/attributes/cluster-uid", "http://" + m.listen + "/computeMetadata/v1/instance/zone"} {
		eventually(a.t, deadline, url, func() error { return ask(a.t.Context(), client, url) })
	}
	return m
}

func ask(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Metadata-Flavor", "Google")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return err
}

// memory is the memory of a process: resident now, the peak, and without file-backed pages,
// which the kernel can drop and shares between processes.
type memory struct{ rss, peak, own int64 }

func (m memory) String() string {
	return fmt.Sprintf("RSS %s (%s at most, %s without the program's pages)", mib(m.rss), mib(m.peak), mib(m.own))
}

func (m *measured) memory(t testing.TB) memory {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.pid))
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) int64 {
		_, rest, _ := strings.Cut(string(status), name+":")
		kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return kib << 10
	}
	return memory{rss: read("VmRSS"), peak: read("VmHWM"), own: read("RssAnon")}
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// run makes a pod of a KSA, which is linked when it is new.
func (a *audited) run(name string, ksa int) *corev1.Pod {
	a.t.Helper()
	return a.RunPod(a.t, kubernetes.PodSpec{Namespace: a.ns, Name: name, KSA: fmt.Sprintf("app-%d", ksa), Node: a.node, HostNetwork: true})
}

// token requests a token on a new connection from within the pod's cgroup, and checks that
// it is the right one.
func (a *audited) token(m *measured, caller *corev1.Pod) {
	a.t.Helper()
	a.enter(string(a.cgroups.Pod(a.t, "besteffort", string(caller.UID))))
	defer a.enter(a.home)
	client := kubernetes.Client(a.t, "127.0.0.1")
	defer client.CloseIdleConnections()
	n := &node{addr: m.listen, google: a.google}
	p := &pod{t: a.t, client: client, node: n, ip: "127.0.0.1"}
	var answer reply
	eventually(a.t, deadline, "a token of "+caller.Name, func() error {
		var err error
		if answer, err = p.try(tokenPath); err == nil && answer.status != http.StatusOK {
			err = fmt.Errorf("%d %s", answer.status, answer.body)
		}
		return err
	})
	want := "serviceAccount:" + caller.Spec.ServiceAccountName + "@" + projectID + ".iam.gserviceaccount.com"
	if got := n.inspect(a.t, answer.body).Principal; got != want {
		a.t.Errorf("%s has the token of %s, want %s", caller.Name, got, want)
	}
}

// enter makes this process one of a cgroup.
func (a *audited) enter(cgroup string) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		a.t.Fatal(err)
	}
}
