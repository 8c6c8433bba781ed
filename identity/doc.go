// Package identity answers one question: who is calling?
//
// The [Pod] at the other end of an accepted [Connection] is looked up once, when the
// connection first needs an identity. Its [Workload] is looked up again after every event of
// the cluster: the Kubernetes service account (KSA) of the pod, and the Google service
// account (GSA) in the KSA's annotation. A changed annotation therefore applies to the next
// request.
//
// There are two resolvers: [Kubernetes] watches a cluster, and [Static] reads a file for
// machines without a cluster. The package must not know tokens or HTTP.
package identity
