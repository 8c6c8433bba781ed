// Package metadatatest gives unit tests a GKE metadata server, with an offline
// Google behind it, in the process of the test.
//
//	func TestUpload(t *testing.T) {
//		srv := metadatatest.New(t)
//		// Code under test: Google's libraries find srv by themselves.
//		...
//		who, err := srv.Principal(token) // in a stand-in for the API that is called
//	}
//
// It answers the question "what does my program do with the identity of its pod?"
// and holds no logic of its own: server, tokens and Google are those of the
// program's standalone mode.
//
// # Identities
//
// A caller is a Kubernetes service account (KSA), default/default where [At] does
// not name another for its address. A KSA that is linked to a Google service
// account (GSA) gets tokens of that, any other the federated token of its own.
//
// # Environment
//
// [New] sets GCE_METADATA_HOST and its like for the life of the test, and hides
// credentials of the developer's own that Google's libraries would prefer. As the
// environment belongs to the whole process, such a test cannot be parallel
// ([testing.T.Setenv]). With [NoEnv] it can: clients then use [Server.Client].
//
// Google's libraries keep what they found for the life of a process: whether there
// is a metadata server at all, the project's ID, and some of them a token source.
// If code of a test binary may ask before the first New, begin in TestMain with
// [Start], and set the variables of [Server.Env] there.
package metadatatest
