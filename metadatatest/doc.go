// Package metadatatest provides a GKE metadata server for unit tests, with an
// offline Google behind it, in the process of the test.
//
//	func TestUpload(t *testing.T) {
//		srv := metadatatest.New(t)
//		// Code under test: Google's libraries find srv by the environment.
//		...
//		principal, err := srv.Principal(token) // in a fake of the API that is called
//	}
//
// It answers the question "what does my program do with the identity of its pod?"
// and has no logic of its own: server, tokens and Google are those of the program's
// standalone mode.
//
// # Identities
//
// Each caller has a Kubernetes service account (KSA): default/default, unless [At]
// names another for the caller's address. A KSA that is linked to a Google service
// account (GSA) gets the GSA's tokens; any other KSA gets its own federated token.
//
// # Environment
//
// [New] sets GCE_METADATA_HOST and similar variables until the test ends, and hides
// the developer's own credentials, which Google's libraries would prefer. The
// environment belongs to the whole process, so such a test cannot be parallel
// ([testing.T.Setenv]). With [NoEnv] it can: clients then use [Server.Client].
//
// Google's libraries cache for the lifetime of a process whether there is a metadata
// server, the project's ID and, in some libraries, a token source. If code of the
// test binary can use them before the first New, call [Start] in TestMain and set
// the variables of [Server.Env] there.
package metadatatest
