package bench

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/kubernetes"
	"gke-metadata-emulator/internal/podtest"
)

const (
	projectID = "prod-project"
	pool      = "//iam.googleapis.com/projects/998877665544/locations/global/workloadIdentityPools/on-prem"
	provider  = pool + "/providers/cluster-1"
	nodeName  = "node-1"
)

// node is a node of a cluster. Its pods have addresses on the loopback interface.
type node struct {
	t       testing.TB
	cluster *kubernetes.Cluster
	google  *fakegoogle.Running
	binary  string
	ns      string
	linked  sync.Map // names of KSAs
}

func newNode(t testing.TB) *node {
	t.Helper()
	n := &node{t: t, cluster: kubernetes.Start(t), google: fakegoogle.Start(t, fakegoogle.Options{})}
	keys, err := n.cluster.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := n.google.AddProvider(fakegoogle.Provider{Name: provider, Issuer: n.cluster.Issuer, JWKS: keys}); err != nil {
		t.Fatal(err)
	}
	n.cluster.Node(t, nodeName, nil)
	n.ns = n.cluster.Namespace(t, "team-")
	n.binary = buildProgram(t, ".", "./cmd/gke-metadata-emulator")
	return n
}

// pod runs a pod of a KSA. A new KSA is created and linked to a GSA.
func (n *node) pod(ksa, ip string) *corev1.Pod {
	n.t.Helper()
	if _, known := n.linked.LoadOrStore(ksa, true); !known {
		gsa := ksa + "@" + projectID + ".iam.gserviceaccount.com"
		n.google.Bind(gsa, "roles/iam.workloadIdentityUser", "principal:"+pool+"/subject/system:serviceaccount:"+n.ns+":"+ksa)
		n.cluster.KSA(n.t, n.ns, ksa, map[string]string{identity.AnnotationGSA: gsa})
	}
	return n.cluster.RunPod(n.t, kubernetes.PodSpec{Namespace: n.ns, Name: "pod-" + strings.ReplaceAll(ip, ".", "-"), KSA: ksa, Node: nodeName, IP: ip})
}

// attested puts this process into the pod's cgroup, and returns the flags of a daemon that
// identifies callers only by the kernel's proof. Without these flags a daemon in this
// environment identifies callers by their addresses, and confirms each connection at the
// API server.
func (n *node) attested(pod *corev1.Pod) []string {
	n.t.Helper()
	root := podtest.NewCgroup(n.t)
	before, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		n.t.Fatal(err)
	}
	_, home, _ := strings.Cut(string(before), "0::")
	home, _, _ = strings.Cut(home, "\n")
	home = filepath.Join(filepath.Dir(string(root)), home) // the root is made at the top
	enter := func(cgroup string) {
		if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			n.t.Fatal(err)
		}
	}
	enter(string(root.Pod(n.t, "besteffort", string(pod.UID))))
	n.t.Cleanup(func() { enter(home) })
	return []string{"--attestation", "require", "--cgroup-root", string(root)}
}

// daemon starts the product as on a node, with the log level of the DaemonSet.
func (n *node) daemon(flags ...string) *program {
	n.t.Helper()
	return startDaemon(n.t, n.binary, append([]string{
		"serve", "--node-name", nodeName, "--kubeconfig", n.cluster.Kubeconfig(), "--routing", "none", "--attestation", "ip",
		"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--project-id", projectID, "--workload-identity-provider", provider,
		"--sts-endpoint", n.google.URL, "--iam-credentials-endpoint", n.google.URL,
	}, flags...)...)
}

// awaitToken returns when a pod gets a token.
func (n *node) awaitToken(p *program, ip string) {
	n.t.Helper()
	client := kubernetes.Client(n.t, ip)
	n.await(func() error { return get(n.t.Context(), client, p.address, tokenPath) })
}
