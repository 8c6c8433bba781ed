// Package fakecloud is a stand-in for the Google APIs that an operator's gcloud calls:
// service accounts, IAM policies, workload identity pools, buckets and repositories.
//
// It answers one question: what did the operator allow? It stores the policies of buckets,
// repositories and projects, and their APIs. At the offline Google beside it, it changes the policies of
// service accounts and the providers that the Security Token Service trusts. It must not
// know Kubernetes, objects or images.
//
// It is strict about requests, and refuses as Google does: a project begins without any API,
// pools exist or not and keep their names after deletion, and accounts are found only in
// their project. Changes that take Google a minute take effect at once.
package fakecloud
