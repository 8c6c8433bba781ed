// Package registry is a stand-in for Artifact Registry at
// LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE: go-containerregistry's
// registry behind a front that demands a token of fakegoogle's, so that a test
// sees who pushed and pulled what.
//
// It answers one question: what would Artifact Registry say to this token? It
// asks fakegoogle by HTTP whose it is, and a [Policy] what that principal may do
// with the repository; it must know nothing of roles and of Kubernetes.
//
// A token comes as a Bearer, or as the password of oauth2accesstoken or _token,
// directly or in exchange for a token of the registry's own at /v2/token, as the
// challenge of the first 401 says. A registry's token is good for what it was
// asked for, until the access token expires. What the policy says is asked at
// every request.
//
// # Where the answers are from
//
// Those of 403 and the names of the codes are Google's as users have reported
// them (GoogleContainerTools/kaniko issues 1256 and 3426, docker/build-push-action
// issue 171). What a repository that nobody made is answered depends on the
// caller: who might use it is told that it is not there, anybody else that he may
// not, as Google says of neither which.
//
// # What it does not do
//
// Keys of service accounts as passwords (_json_key), access for allUsers,
// projects of a domain (example.com:project), repositories of other formats than
// DOCKER, immutable tags and the Artifact Registry API.
package registry
