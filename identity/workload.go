package identity

import "net/netip"

// Connection is an accepted TCP connection. It determines the caller; a header of a
// request never does.
type Connection struct {
	Remote netip.AddrPort // the caller's end
	Local  netip.AddrPort // our end
	// Attested is the accepted connection if its listener attests the caller. It is nil
	// if only the caller's address is known.
	Attested Attested
}

// Pod is the pod at the other end of a connection. It is constant for the connection.
type Pod struct {
	Namespace string
	Name      string
	UID       string
	// Static is set if the kubelet runs the pod from a file. The API server has only a
	// mirror of such a pod.
	Static bool
}

// ServiceAccount is a Kubernetes service account (KSA).
type ServiceAccount struct {
	Namespace string
	Name      string
	UID       string // changes if the KSA is deleted and created again
}

// Workload is a pod with the properties of its KSA at the moment of the request.
type Workload struct {
	Pod Pod
	KSA ServiceAccount
	// GSA is the e-mail address of the Google service account in the KSA's annotation;
	// empty if the KSA has none.
	GSA string
	// Delegates is the delegate chain to the GSA, separated by commas. The KSA may
	// impersonate the first delegate, and the last one may impersonate the GSA.
	Delegates string
	// QuotaProject is the project that Google bills for the calls of this workload;
	// empty for Google's default.
	QuotaProject string
	// PrincipalEmail is set if the KSA's principal identifier is to be returned in
	// place of a service account's e-mail address.
	PrincipalEmail bool
	// Warning is about an annotation that is ignored because its value is invalid, with
	// the remedy; empty if there is none. It is no property of a token.
	Warning string `json:"-"`
}
