package identity

import "fmt"

// Reason is the kind of an [Error]. The set is closed: it labels metrics.
type Reason string

const (
	// NotReady: a later event of the cluster can resolve it. Retry.
	NotReady Reason = "not_ready"
	// Unknown: no pod of this node has this address.
	Unknown Reason = "unknown_source"
	// Ambiguous: more than one live pod claims this address.
	Ambiguous Reason = "ambiguous_source"
	// HostNetwork: the caller shares the node's network, and its address does not
	// identify its pod.
	HostNetwork Reason = "host_network"
	// NotAPod: the caller is a process of the node, and is in no pod's cgroup.
	NotAPod Reason = "not_a_pod"
	// Unattested: a proof by the kernel is required, and there is none.
	Unattested Reason = "unattested"
	// Mismatch: the kernel's proof names one pod and the address another.
	Mismatch Reason = "proof_mismatch"
	// NotListed: the list of identities has no row for this address.
	NotListed Reason = "not_listed"
	// Gone: the pod ended while its connection was open.
	Gone Reason = "pod_gone"
	// BadAnnotation: an annotation of the KSA has an invalid value.
	BadAnnotation Reason = "bad_annotation"
)

// Error is the reason why a caller has no identity, with the remedy.
type Error struct {
	Reason  Reason
	Message string // the caller reads it: it names the object and the remedy
	Err     error  // the cause, if any
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Err }

func errorf(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}
