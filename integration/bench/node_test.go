package bench

import (
	"strings"
	"sync"
	"testing"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/kubernetes"
)

const (
	projectID = "prod-project"
	pool      = "//iam.googleapis.com/projects/998877665544/locations/global/workloadIdentityPools/on-prem"
	provider  = pool + "/providers/cluster-1"
	nodeName  = "node-1"
)

// node is a node of a cluster whose pods are addresses of the loopback.
type node struct {
	t       testing.TB
	cluster *kubernetes.Cluster
	google  *fakegoogle.Running
	binary  string
	ns      string
	linked  sync.Map // KSAs
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
	n.binary = buildProgram(t, "gke-metadata-emulator/cmd/gke-metadata-emulator")
	return n
}

// pod runs one of a KSA, which is made and linked with a GSA when it is new.
func (n *node) pod(ksa, ip string) {
	n.t.Helper()
	if _, known := n.linked.LoadOrStore(ksa, true); !known {
		gsa := ksa + "@" + projectID + ".iam.gserviceaccount.com"
		n.google.Bind(gsa, "roles/iam.workloadIdentityUser", "principal:"+pool+"/subject/system:serviceaccount:"+n.ns+":"+ksa)
		n.cluster.KSA(n.t, n.ns, ksa, map[string]string{identity.AnnotationGSA: gsa})
	}
	n.cluster.RunPod(n.t, kubernetes.PodSpec{Namespace: n.ns, Name: "pod-" + strings.ReplaceAll(ip, ".", "-"), KSA: ksa, Node: nodeName, IP: ip})
}

// daemon starts one as on a node. Its log is as a DaemonSet's.
func (n *node) daemon(more ...string) *program {
	n.t.Helper()
	return startDaemon(n.t, n.binary, append([]string{
		"serve", "--node-name", nodeName, "--kubeconfig", n.cluster.Kubeconfig(), "--routing", "none", "--attestation", "ip",
		"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--project-id", projectID, "--workload-identity-provider", provider,
		"--sts-endpoint", n.google.URL, "--iam-credentials-endpoint", n.google.URL,
	}, more...)...)
}

// awaitToken returns when a pod gets one.
func (n *node) awaitToken(p *program, ip string) {
	n.t.Helper()
	client := kubernetes.Client(n.t, ip)
	n.await(func() error { return get(n.t.Context(), client, p.address, tokenPath) })
}
