// Package attest answers one question: which pod does the kernel say is at the
// other end of a connection?
//
// Every process of a pod lives in a cgroup below the pod's own, and only root on
// the node could move it out. A [Recorder] lets the kernel note, for each
// connection to the metadata server, the cgroup that opened it; where there is no
// such note, SOCK_DIAG finds the cgroup of a client in the node's own network.
// [Cgroups] turns a cgroup's number into its path, and the path names the pod.
// [Attestor] combines them under a [Policy].
//
// The package knows the kernel and the kubelet's way to name cgroups. It knows
// nothing of the API server: whether the pod exists, and whether it may have the
// address that it calls from, is for package identity to say.
package attest
