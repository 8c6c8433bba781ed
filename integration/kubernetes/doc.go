// Package kubernetes starts a real Kubernetes API server with its etcd, for tests. Both are
// built from their Go modules, with the versions in apiserver/go.mod and etcd/go.mod, and
// kept in the user's cache directory: no container runtime, no registry, no root.
//
// It answers one question: how does a test get a real API server? It must not know the
// product.
//
// There is only the API server. The test does what other components of a cluster would do:
// [Cluster.KSA] replaces the controller manager, [Cluster.RunPod] replaces the scheduler
// and the kubelet, and [Client] is a program in a pod. Admission, RBAC, watches, tokens and
// their revocation are real.
//
//	cluster := kubernetes.Start(t)
//	cluster.Namespace(t, "team")
//	cluster.KSA(t, "team", "app", nil)
//	pod := cluster.RunPod(t, kubernetes.PodSpec{
//		Namespace: "team", Name: "app-1", KSA: "app", Node: "node-1", IP: "127.0.1.7",
//	})
package kubernetes
