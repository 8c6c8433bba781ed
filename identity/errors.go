package identity

import "fmt"

// Reason is the kind of an [Error]. The set is closed: it labels metrics.
type Reason string

const (
	// NotReady: the answer may come with the cluster's next event. Ask again.
	NotReady Reason = "not_ready"
	// Unknown: no pod of this node has this address.
	Unknown Reason = "unknown_source"
	// Ambiguous: more than one live pod claims this address.
	Ambiguous Reason = "ambiguous_source"
	// HostNetwork: the caller shares the node's network, so that its address
	// does not say which pod it is.
	HostNetwork Reason = "host_network"
	// NotAPod: the caller is a process of the node, in no pod's cgroup.
	NotAPod Reason = "not_a_pod"
	// Unattested: the kernel's proof is required, and there is none.
	Unattested Reason = "unattested"
	// Mismatch: the kernel's proof names one pod and the address another.
	Mismatch Reason = "proof_mismatch"
	// NotListed: the list of identities has no row for this address.
	NotListed Reason = "not_listed"
	// Gone: the pod ended while its connection was open.
	Gone Reason = "pod_gone"
	// BadAnnotation: the KSA's annotation is not an e-mail address of a Google
	// service account.
	BadAnnotation Reason = "bad_annotation"
)

// Error says why a caller has no identity, and what to do about it.
type Error struct {
	Reason  Reason
	Message string // for the caller's eyes: names the thing and the remedy
	Err     error  // the cause, if any
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Err }

func failf(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}
