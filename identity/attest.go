package identity

import (
	"context"
	"net/netip"
)

// Caller is what is known of the process at the other end of a connection.
type Caller struct {
	// PodUID is the caller's pod as the kernel attests it, for a static pod the
	// hash of its file; empty where nothing but the address is known.
	PodUID string
	// IP is the connection's source address.
	IP netip.Addr
	// Unrecorded says that the kernel records the connections of all pods of the node,
	// and has none of this one: its packets were made up, or its pod's runtime has no
	// sockets on the node, as gVisor's and Kata's.
	Unrecorded bool
}

// Attested is an accepted connection that carries the proof of its caller.
type Attested interface {
	// Caller is constant for the connection. Its errors are of type [*Error].
	Caller() (Caller, error)
}

// caller is the attested caller of a connection, or else its source address.
func (c Connection) caller(ctx context.Context) (Caller, error) {
	if c.Attested != nil {
		return c.Attested.Caller()
	}
	return SourceIP{}.Attest(ctx, c)
}

// SourceIP attests nothing but the source address. It is weak: whoever can send
// from a pod's address is that pod. [Kubernetes] therefore confirms with the API
// server, once for each connection, that the pod still exists.
type SourceIP struct{}

// Attest returns the source address. An address that connects to itself belongs to
// the node's own network namespace: the kernel picks the destination as source
// for its local routes.
func (SourceIP) Attest(_ context.Context, conn Connection) (Caller, error) {
	remote := conn.Remote.Addr().Unmap()
	if remote == conn.Local.Addr().Unmap() {
		return Caller{}, hostNetworkError(remote)
	}
	return Caller{IP: remote}, nil
}

func hostNetworkError(ip netip.Addr) *Error {
	return failf(HostNetwork, "%s is an address of the node itself, which all its host-network pods share, so this caller cannot be told from others: "+
		"run the pod without hostNetwork to give it a workload identity", ip)
}
