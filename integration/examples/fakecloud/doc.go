// Package fakecloud is a stand-in for the Google APIs that an operator's gcloud calls:
// service accounts, IAM policies, workload identity pools, buckets and repositories.
//
// It answers one question: what did the operator allow? It stores the policies of buckets,
// repositories and projects. At the offline Google beside it, it changes the policies of
// service accounts and the providers that the Security Token Service trusts. It must not
// know Kubernetes, objects or images.
//
// It is strict about requests. Changes that take Google a minute take effect at once.
package fakecloud
