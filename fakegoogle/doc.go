// Package fakegoogle is an offline Google: the part of Google Cloud that
// Workload Identity needs, behind one http.Handler, as strict as the real one.
//
// It answers the question "what would Google answer?" for the Security Token
// Service, the IAM Service Account Credentials API, a service account's IAM
// policy, the OAuth 2.0 token endpoint and tokeninfo. It must not know about
// metadata servers, pods or Kubernetes beyond the claims of a token.
//
// # Endpoints
//
//	POST /v1/token                                            Security Token Service
//	POST /v1/projects/-/serviceAccounts/EMAIL:VERB            generateAccessToken, generateIdToken,
//	                                                          signBlob, signJwt, getIamPolicy
//	POST /v1/projects/ID/serviceAccounts/EMAIL:getIamPolicy   with the ID of the account's project
//	GET  /v1/projects/-/serviceAccounts/EMAIL/allowedLocations
//	POST /token                                               OAuth 2.0: jwt-bearer, refresh_token
//	GET  /tokeninfo, /oauth2/v3/tokeninfo                     (and POST)
//	GET  /oauth2/v3/certs                                     keys of ID tokens
//	GET  /service_accounts/v1/jwk/EMAIL                       keys of signBlob and signJwt
//	     /fakegoogle/v1/...                                   not Google's: see admin.go
//
// # Checks
//
// The server checks everything that a client can get wrong: signatures, issuers,
// audiences, times, scopes, lifetimes, unknown fields, delegate chains and, above
// all, whether a role that is bound to the caller's principal grants the IAM
// permission. Each refusal has Google's status and shape, and Google's text if it
// is known. If Google's behaviour is known only in part, the server follows the
// stricter reading: a client that passes here also passes with Google. A text that is
// inferred is marked so in the code.
//
// A policy cannot name a member of a pool that does not exist; a project's APIs can be
// disabled or prohibited; a user's token needs a quota project.
//
// # Limitations
//
// Self-signed JWTs, which some Google APIs accept as bearer tokens instead of an
// access token, are refused. There are no groups, no IAM conditions and no
// inherited policies above the project. A binding takes effect at once; with
// Google it usually takes two minutes, sometimes more than seven. A binding can name a user or a service account
// that does not exist, which Google refuses. A provider's attribute mapping is always
// google.subject=assertion.sub.
//
// The endpoints below /fakegoogle/ have no authentication at all. Serve the
// handler only on a loopback address or on a network whose clients are all trusted.
package fakegoogle
