// Package fakecloud is a stand-in for the APIs of Google's that an operator uses
// to set things up, as gcloud calls them: service accounts, IAM policies,
// workload identity pools, buckets and repositories.
//
// It answers one question: what did the operator allow? It keeps the policies of
// buckets, repositories and projects, and changes those of service accounts, and
// whom the Security Token Service believes, at the offline Google beside it. It
// must know nothing of Kubernetes, and nothing of objects and images.
//
// It is strict in what it is asked for, and lax in time: what takes Google a
// minute is done at once.
package fakecloud
