// Package kubernetes starts a real Kubernetes API server with its etcd, for
// tests. Both are built from their Go modules, whose versions are in
// apiserver/go.mod and etcd/go.mod, and kept in the user's cache directory: no
// container runtime, no registry, no root.
//
// The API server is all there is. What other components of a cluster would do
// is done by the test: [Cluster.KSA] instead of the controller manager,
// [Cluster.RunPod] instead of the scheduler and the kubelet, and [Client] is a
// program in a pod. Admission, RBAC, watches, tokens and their revocation are
// the real thing.
//
//	cluster := kubernetes.Start(t)
//	cluster.Namespace(t, "team")
//	cluster.KSA(t, "team", "app", nil)
//	pod := cluster.RunPod(t, kubernetes.PodSpec{
//		Namespace: "team", Name: "app-1", KSA: "app", Node: "node-1", IP: "127.0.1.7",
//	})
package kubernetes
