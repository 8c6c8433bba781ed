// Package registry is a stand-in for Artifact Registry at
// LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE: go-containerregistry's registry behind a
// front that requires a token of fakegoogle, so a test knows which principal pushed and
// pulled.
//
// It answers one question: what would Artifact Registry answer to this token? It looks up
// the token in fakegoogle by HTTP, and the permissions of its principal in a [Policy]; it
// must not know roles or Kubernetes.
//
// A token is sent as a Bearer, or as the password of oauth2accesstoken or _token. It is used
// directly or exchanged at /v2/token for a token that the registry issues, as the challenge
// of the first 401 demands. A registry's token is valid for the requested scopes until the
// access token expires. The policy is consulted at every request.
//
// # Sources of the answers
//
// The 403 answers and the names of the codes are Google's as users have reported them
// (GoogleContainerTools/kaniko issues 1256 and 3426, docker/build-push-action issue 171).
// The answer for a repository that does not exist depends on the caller: a caller with
// permission for it learns that it does not exist; for others it is a denial, which does not
// reveal whether it exists, as with Google.
//
// # Limitations
//
// Keys of service accounts as passwords (_json_key), access for allUsers, projects of a
// domain (example.com:project), repositories of other formats than DOCKER, immutable tags
// and the Artifact Registry API are not supported.
package registry
