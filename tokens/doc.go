// Package tokens answers one question: what may a workload have?
//
// A [Source] gives a workload's access and ID tokens. The source that [New] builds
// is a stack of decorators, each in a file of its own, from the caller inwards:
//
//	audit → cache → limit → policy → mint
//
// The cache turns many equal requests at once into one call inwards. The innermost
// decorator mints: it takes a credential (a federated token that Google's Security
// Token Service issued for the KSA's own token, or the operator's source credential)
// and calls Google's IAM Credentials service for a token of the GSA.
//
// Behaviour by file:
//
//   - caching and retries: cache.go (the store), entry.go (renewal and backoff of one
//     token), fairlru.go (eviction), singleflight.go, background.go, key.go
//   - forgetting and restarts: retention.go (pods, annotations, failures), snapshot.go
//   - bounds: limit.go, fairsemaphore.go
//   - decisions: policy.go, rules.go (flags and policy file), iampolicy.go, quotaproject.go
//   - Google and the API server: mint.go, federation.go, subject.go, impersonation.go,
//     localissuer.go, upstream.go (attempts), clock.go (skew), jwt.go, gsaproject.go
//   - reports: audit.go, metrics.go, errors.go; refusals and their remedies: remedy.go,
//     signingkeys.go; calls without a response: unreachable.go
//
// The test files are named after the same behaviours, for example stale_test.go for
// tokens that outlive an outage.
//
// The package knows workloads and Google. It knows nothing of HTTP servers and
// nothing of connections.
package tokens
