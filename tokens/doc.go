// Package tokens answers one question: what may a workload have?
//
// A [Source] gives a workload's access and ID tokens. The one that [New] builds
// is a stack of decorators, each in a file of its own, from the caller inwards:
//
//	audit → cache → limit → policy → mint
//
// The cache makes one call inwards of many equal requests at once. The innermost
// mints: it takes a credential (a federated token that Google's Security Token
// Service gave for the KSA's own token, or the operator's source credential) and
// asks Google's IAM Credentials service for a token of the GSA.
//
// The package knows workloads and Google. It knows nothing of HTTP servers and
// nothing of connections.
package tokens
