package cluster_test

import (
	"fmt"
	"os"
	"testing"

	"gke-metadata-emulator/integration/cluster"
	"gke-metadata-emulator/integration/cluster/deployment"
)

// routingMode is a way in which packets get to the daemon. To test another one,
// add a line to routingModes.
type routingMode struct {
	name     string
	settings []string // of the daemon, beyond --routing
	patch    string   // of its DaemonSet; none if empty
}

var routingModes = []routingMode{
	{name: "address"},
	{name: "ebpf", patch: redirected},
	{name: "nftables", patch: redirected},
}

// redirected is the patch for a mode that sends pods to an address of the node.
const redirected = `apiVersion: apps/v1
kind: DaemonSet
metadata: {name: gke-metadata-emulator, namespace: gke-metadata-emulator}
spec:
  template:
    spec:
      volumes:
      - {name: bpf, hostPath: {path: /sys/fs/bpf}}
      containers:
      - name: gke-metadata-emulator
        env:
        - {name: GME_HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
        - {name: GME_LISTEN, value: "$(GME_HOST_IP):8987"}
        securityContext: {capabilities: {add: [NET_ADMIN, BPF, DAC_READ_SEARCH]}}
        volumeMounts:
        - {name: bpf, mountPath: /sys/fs/bpf}
`

var cnis = []cluster.CNI{cluster.Bridge, cluster.PTP}

// check is one promise of the product, in a cluster of two nodes in which it is installed
// as the README describes. Earlier checks may have run before it; checks that break nodes
// come last.
type check struct {
	name string
	run  func(*testing.T, *environment)
	once bool // in one column only, because it takes long and does not depend on the mode
}

func checks() []check {
	all := []check{{name: "pods on both nodes get the GSA of their own KSA", run: podsGetTheirOwnAccount}}
	for _, client := range clients {
		all = append(all, check{name: client.name, run: clientGetsItsToken(client.name)})
	}
	return append(all, []check{
		{name: "two host-network pods are distinguished", run: hostNetworkPodsAreToldApart},
		{name: "a static pod has its own identity", run: staticPodHasItsOwnIdentity},
		{name: "a pod in a user namespace", run: podInAUserNamespaceGetsItsToken},
		{name: "a node process outside any pod gets nothing", run: processOfTheNodeGetsNothing},
		{name: "a pod gets a token with its first instruction", run: firstInstructionGetsAToken},
		{name: "metadata.google.internal resolves", run: nameResolves},
		{name: fmt.Sprintf("%d Jobs that reuse addresses all get the right token", jobs), run: jobsGetTheRightToken},
		{name: fmt.Sprintf("first token of %d new pods", newPods), run: newPodsGetTheirFirstToken, once: true},
		{name: "a flushed or deleted nftables table is restored", run: flushedTableComesBack},
		{name: "a killed daemon recovers", run: killedDaemonComesBack},
		{name: "a rebooted node serves again", run: rebootedNodeServesAgain},
	}...)
}

func TestDaemon_OnRealNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts clusters; not with -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, for namespaces and cgroups")
	}
	m := newMatrix()
	installed := prepareClients(t)
	for i, cni := range cnis {
		t.Run("cni="+string(cni), func(t *testing.T) {
			l := load(t, start(t, cluster.Config{
				Nodes: 2, CNI: cni, Log: os.Stderr,
				DNSHosts: map[string]string{"metadata.google.internal": "169.254.169.254"},
			}), installed)
			for j, mode := range routingModes {
				t.Run("routing="+mode.name, func(t *testing.T) {
					e := l.install(t, mode)
					e.running = e.startClients(t)
					for _, check := range checks() {
						if check.once && i+j > 0 {
							continue
						}
						t.Run(check.name, func(t *testing.T) {
							e := e.in(t)
							// Also when the check ends early.
							t.Cleanup(func() {
								if check.once {
									m.ranOnce(e, mode.name+", "+string(cni), check.name)
								} else {
									m.ran(e, mode.name, cni, check.name)
								}
							})
							check.run(t, e)
						})
					}
				})
			}
			if cni == cluster.Bridge {
				t.Run("spoofing", func(t *testing.T) { spoofing(t, l, m) })
			}
		})
	}
	m.compare(t, checks())
}

func start(t *testing.T, config cluster.Config) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Up(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

const (
	clientImage  = "localhost/gke-metadata-emulator/client:1"
	spooferImage = "localhost/gke-metadata-emulator/spoofer:1"
)

// loaded is a cluster whose nodes have all images.
type loaded struct {
	cluster *cluster.Cluster
	daemon  string // paths of programs on this machine
	client  string
	clients map[string]installedWorkload
}

func load(t *testing.T, c *cluster.Cluster, clients map[string]installedWorkload) *loaded {
	t.Helper()
	l := &loaded{cluster: c, clients: clients}
	l.client = loadStatic(t, c, clientImage, "client")
	loadStatic(t, c, spooferImage, "spoofer")
	loadMachine(t, c)
	l.daemon = deployment.Load(t, c)
	return l
}

// loadStatic makes an image of one of this folder's programs.
func loadStatic(t *testing.T, c *cluster.Cluster, image, name string) string {
	t.Helper()
	program, err := c.BuildStatic(t.Context(), "integration/cluster", "./"+name, name)
	if err != nil {
		t.Fatal(err)
	}
	static := cluster.Image{Name: image, Files: map[string]string{"/" + name: program}, Entrypoint: []string{"/" + name}}
	if err := c.Load(t.Context(), static); err != nil {
		t.Fatal(err)
	}
	return program
}
