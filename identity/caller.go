package identity

import "net/netip"

// Caller identifies the process at the other end of a connection.
type Caller struct {
	// PodUID is the UID of the caller's pod as the kernel attests it; for a static pod,
	// the hash of its file. It is empty if only the address is known.
	PodUID string
	// IP is the connection's source address.
	IP netip.Addr
	// Unrecorded is set if the kernel records the connections of all pods of the node and
	// has no record of this one: its packets were forged, or the runtime of its pod
	// (gVisor, Kata) has no sockets on the node.
	Unrecorded bool
}

// Attested is an accepted connection that carries the proof of its caller.
type Attested interface {
	// Caller is constant for the connection. Its errors are of type [*Error].
	Caller() (Caller, error)
}

// caller returns the attested caller of a connection, or else its source address.
func (c Connection) caller() (Caller, error) {
	if c.Attested != nil {
		return c.Attested.Caller()
	}
	return SourceIP(c)
}

// SourceIP identifies a caller by the source address alone. This is weak: any process
// that can send from a pod's address is taken for the pod. [Kubernetes] therefore
// confirms with the API server, once for each connection, that the pod still exists.
//
// An address that connects to itself belongs to the node's own network namespace, and is
// an error of the reason [HostNetwork]: the kernel uses the destination as the source for
// its local routes.
func SourceIP(conn Connection) (Caller, error) {
	remote := conn.Remote.Addr().Unmap()
	if remote == conn.Local.Addr().Unmap() {
		return Caller{}, hostNetworkError(remote)
	}
	return Caller{IP: remote}, nil
}

func hostNetworkError(ip netip.Addr) *Error {
	return errorf(HostNetwork, "%s is an address of the node itself, which all its host-network pods share; the caller cannot be identified by it: "+
		"run the pod without hostNetwork to give it a workload identity", ip)
}
