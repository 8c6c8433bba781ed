// Package fakegoogle is an offline Google: what Workload Identity needs of
// Google Cloud, behind one http.Handler, as strict as the real thing.
//
// It answers the question "what would Google say?" for the Security Token
// Service, the IAM Service Account Credentials API, a service account's IAM
// policy, the OAuth 2.0 token endpoint and tokeninfo. It must know nothing of
// metadata servers, pods or Kubernetes beyond what a token's claims say.
//
// # Endpoints
//
//	POST /v1/token                                            Security Token Service
//	POST /v1/projects/-/serviceAccounts/EMAIL:VERB            generateAccessToken, generateIdToken,
//	                                                          signBlob, signJwt, getIamPolicy
//	GET  /v1/projects/-/serviceAccounts/EMAIL/allowedLocations
//	POST /token                                               OAuth 2.0: jwt-bearer, refresh_token
//	GET  /tokeninfo, /oauth2/v3/tokeninfo                     (and POST)
//	GET  /oauth2/v3/certs                                     keys of ID tokens
//	GET  /service_accounts/v1/jwk/EMAIL                       keys of signBlob and signJwt
//	     /fakegoogle/v1/...                                   not Google's: see admin.go
//
// # What it checks
//
// Everything that a client can get wrong: signatures, issuers, audiences,
// times, scopes, lifetimes, unknown fields, delegation chains, and above all
// whether the caller's principal has the IAM permission by a role that is bound
// to it. Each refusal has Google's status, shape and, where it is known, text.
// Where Google's behaviour is known only in part, the stricter reading was
// taken: a client that passes here has no surprise there.
//
// # What it does not do
//
// Self-signed JWTs, which some Google APIs take as bearer tokens in place of an
// access token, are not accepted. There are no groups, no IAM conditions, no
// inherited policies above the project, and no propagation delay: a binding
// counts at once, which with Google takes a minute or more.
//
// The endpoints below /fakegoogle/ have no authentication at all. Serve the
// handler on a loopback address, or where everyone may do everything.
package fakegoogle
