package identity

import (
	"net/netip"
)

// The annotations of a Kubernetes service account that GKE honours; see
// "About Workload Identity Federation for GKE" in Google's documentation.
const (
	AnnotationGSA            = "iam.gke.io/gcp-service-account"
	AnnotationQuotaProject   = "iam.gke.io/credential-quota-project"
	AnnotationPrincipalEmail = "iam.gke.io/return-principal-id-as-email"
	// AnnotationDelegates is a JSON list, honoured by Google's Secret Manager provider
	// for the Secrets Store CSI driver beside the one for the GSA.
	AnnotationDelegates = "iam.gke.io/gcp-service-account-delegates"
)

// Connection is an accepted TCP connection: who is calling is a property of it,
// never of a header in a request.
type Connection struct {
	Remote netip.AddrPort // the caller's end
	Local  netip.AddrPort // our end
	// Attested is the accepted connection, if its listener attests the caller; nil if
	// nothing is known of the caller but its address.
	Attested Attested
}

// Pod is the pod at the other end of a connection. It does not change while the
// connection lives.
type Pod struct {
	Namespace string
	Name      string
	UID       string
	// Static: the kubelet runs it from a file, and the API server has only its mirror.
	Static bool
}

// ServiceAccount is a Kubernetes service account (KSA).
type ServiceAccount struct {
	Namespace string
	Name      string
	UID       string // a KSA that is deleted and created anew has another UID
}

// Workload is a pod with what its KSA says at the moment of the request.
type Workload struct {
	Pod Pod
	KSA ServiceAccount
	// GSA is the e-mail address of the Google service account that the KSA is
	// annotated with; empty where it is not annotated.
	GSA string
	// Delegates are the service accounts through which the GSA is reached, the first
	// that the KSA may use before the last that may use the GSA, with commas between.
	Delegates string
	// QuotaProject is the project that Google bills the calls of this workload
	// to; empty for Google's default.
	QuotaProject string
	// PrincipalEmail says that the KSA wants its principal identifier shown
	// where a service account's e-mail address stands otherwise.
	PrincipalEmail bool
}
