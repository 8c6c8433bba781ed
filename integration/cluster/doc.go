// Package cluster starts a real Kubernetes cluster of one or more nodes on one
// Linux machine, for tests: kubelet, containerd, runc, CNI, kube-proxy and
// CoreDNS, from source, without Docker and without a registry.
//
// It answers one question: does the product work where it is to work? It must
// know nothing of the product; its folder product does.
//
// The control plane has a network namespace, and each node a network, a mount
// and a UTS namespace, a writable copy of /etc, /opt, /var/lib and /var/log, and
// a /run of its own. In a node every path is the standard one, so manifests with
// hostPath volumes are those of a real node. Nothing is routed to the machine or
// beyond it; this package relays to the API server from a port on loopback.
//
// It was tried with cgroup v1 and a v2 hierarchy beside it. With v2 alone it has a way
// to work that nobody has tried yet.
//
// All processes are in cgroups of the cluster. [Cluster.Close] ends them by
// these, and with the last process the namespaces and their mounts are gone.
// What a crashed run left is ended by the next one, or by [Sweep].
//
//	c, err := cluster.Up(ctx, cluster.Config{Nodes: 2, CNI: cluster.PTP, Log: os.Stderr})
//	defer c.Close()
//	err = c.Load(ctx, cluster.Image{Name: "localhost/app:1", Files: map[string]string{"/app": binary}, Entrypoint: []string{"/app"}})
package cluster
