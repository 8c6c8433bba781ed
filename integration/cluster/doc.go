// Package cluster starts a real Kubernetes cluster of one or more nodes on one Linux
// machine, for tests: kubelet, containerd, runc, CNI, kube-proxy and CoreDNS, built from
// source, without Docker and without a registry.
//
// It answers one question: how does a test get real nodes? It must not know the product;
// its folder deployment does.
//
// The control plane has a network namespace. Each node has a network, a mount and a UTS
// namespace, a writable copy of /etc, /opt, /var/lib and /var/log, and a separate /run. In
// a node every path is the standard one, so manifests with hostPath volumes are those of a
// real node. Nothing is routed to the machine or beyond it; this package relays from a port
// on loopback to the API server.
//
// It was tested with cgroup v1 and a v2 hierarchy beside it. The code for v2 alone has not
// been tested yet.
//
// All processes are in cgroups of the cluster. [Cluster.Close] kills these cgroups. With
// the last process the namespaces and their mounts are gone. The next run, or [Sweep],
// removes what a crashed run left.
//
//	c, err := cluster.Up(ctx, cluster.Config{Nodes: 2, CNI: cluster.PTP, Log: os.Stderr})
//	defer c.Close()
//	err = c.Load(ctx, cluster.Image{Name: "localhost/app:1", Files: map[string]string{"/app": binary}, Entrypoint: []string{"/app"}})
package cluster
