// Package attest answers one question: which pod is at the other end of a connection,
// according to the kernel?
//
// Every process of a pod is in a cgroup below the pod's own, and only root on the node
// can move it out. A [Recorder] makes the kernel record, for each connection to the
// metadata server, the cgroup that opened it (package internal/bpf has the programs). If
// there is no record, sock_diag(7) finds the cgroup of a client in the node's own network.
// [Cgroups] finds the path of a cgroup by its number, and the path names the pod.
// [Attestor] combines them under a [Policy].
//
// The package knows the kernel and the names that a kubelet gives to cgroups. It must not
// know the API server: package identity decides whether the pod exists, and whether it has
// the address from which it calls.
package attest
