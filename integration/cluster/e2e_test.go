package cluster_test

import (
	"os"
	"testing"

	"gke-metadata-emulator/integration/cluster"
	"gke-metadata-emulator/integration/cluster/product"
)

// routingMode is a way in which packets get to the daemon. To test another one,
// add a line to routingModes.
type routingMode struct {
	name     string
	settings []string // of the daemon, beyond --routing
	patch    string   // of its DaemonSet; none if empty
	podsOnly bool     // pods of the node's network are not redirected here
	remark   string   // what a reader of the table is to know
}

var routingModes = []routingMode{
	{name: "address"},
	{name: "ebpf", patch: redirected},
	{
		name: "nftables",
		// The node's cgroups are a part of the machine's hierarchy here. Without its
		// root the daemon's own connections are not redirected, as in any pod that
		// has a cgroup namespace: the probe of the metadata address fails for ever.
		patch: redirected + `        readinessProbe:
          exec: null
          httpGet: {host: "127.0.0.1", port: 8989, path: /readyz}
`,
		podsOnly: true,
		remark:   "readiness is that of /readyz, as the connections of pods of the node's network are not redirected here",
	},
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

// check is one thing that the product promises, in a cluster of two nodes where
// it is installed as the README says. The ones before may have run already: what
// breaks nodes comes last.
type check struct {
	name string
	run  func(*testing.T, *environment)
}

var checks = []check{
	{"pods of both nodes get their own KSA's GSA", podsGetTheirOwnAccount},
	{"a pod's first instruction gets a token", firstInstructionGetsAToken},
	{"two pods of the node's network are told apart", hostNetworkPodsAreToldApart},
	{"metadata.google.internal resolves", nameResolves},
	{"50 Jobs that reuse addresses, each token right", jobsGetTheRightToken},
	{"the daemon killed comes back", killedDaemonComesBack},
	{"a node rebooted serves again", rebootedNodeServesAgain},
}

func TestDaemonInACluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts clusters; not with -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, for namespaces and cgroups")
	}
	m := newMatrix()
	for _, cni := range cnis {
		t.Run("cni="+string(cni), func(t *testing.T) {
			c := start(t, cluster.Config{
				Nodes: 2, CNI: cni, Log: os.Stderr,
				DNSHosts: map[string]string{"metadata.google.internal": "169.254.169.254"},
			})
			daemon := load(t, c)
			for _, mode := range routingModes {
				t.Run("routing="+mode.name, func(t *testing.T) {
					e := install(t, c, mode, daemon)
					for _, check := range checks {
						t.Run(check.name, func(t *testing.T) {
							e := e.in(t)
							// Also when the check ends early.
							t.Cleanup(func() { m.ran(t, mode.name, cni, check.name, e.note) })
							check.run(t, e)
						})
					}
				})
			}
		})
	}
	m.compare(t, checks)
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

const clientImage = "localhost/gke-metadata-emulator/client:1"

// load gives the nodes the product's image and the workload's. It returns the
// path of the product's program.
func load(t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	client, err := c.BuildStatic(t.Context(), "integration/cluster", "./client", "client")
	if err != nil {
		t.Fatal(err)
	}
	image := cluster.Image{Name: clientImage, Files: map[string]string{"/client": client}, Entrypoint: []string{"/client"}}
	if err := c.Load(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	return product.Load(t, c)
}
