package tokens

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/api/iamcredentials/v1"
	"google.golang.org/api/option"

	"gke-metadata-emulator/identity"
)

// credential is what the token of a GSA is minted with.
type credential interface {
	// bearer returns the token that authorizes calls of IAM for w.
	bearer(ctx context.Context, w identity.Workload) (Token, error)
	// quotaProject is the project that is billed for calls of IAM with the bearer, unless
	// the KSA names one; empty: Google chooses.
	quotaProject() string
	// unlinkedToken returns the access token of a workload whose KSA names no GSA. It
	// lives for maxLifetime at most; 0 is Google's default.
	unlinkedToken(ctx context.Context, w identity.Workload, scopes Scopes, maxLifetime time.Duration) (Token, error)
}

const serviceAccountTokenCreator = "roles/iam.serviceAccountTokenCreator"

// mint is the innermost [Source]: it calls Google's IAM Credentials service.
type mint struct {
	credential  credential
	calls       *iamcredentials.ProjectsServiceAccountsService
	delegates   []string                              // the chain from the credential to all GSAs
	maxLifetime func(identity.Workload) time.Duration // of an access token; 0 is Google's default
	sourceFile  string                                // see request.file
	caller      func(identity.Workload) string        // IAM's name of the credential; see request.caller
	// missingBinding names the binding that a refused credential probably lacks.
	missingBinding func(identity.Workload) string
	now            func() time.Time
	metrics        *metrics
}

func newIAMCredentials(o Options) (*iamcredentials.ProjectsServiceAccountsService, error) {
	service, err := iamcredentials.NewService(context.Background(), option.WithHTTPClient(o.HTTPClient), option.WithEndpoint(o.IAMCredentialsEndpoint))
	if err != nil {
		return nil, fmt.Errorf("IAM Credentials client for %s: %w", o.IAMCredentialsEndpoint, err)
	}
	return service.Projects.ServiceAccounts, nil
}

// AccessToken implements [Source].
func (m *mint) AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	lifetime := m.maxLifetime(w)
	if w.GSA == "" {
		return m.credential.unlinkedToken(ctx, w, scopes, lifetime)
	}
	bearer, err := m.credential.bearer(ctx, w)
	if err != nil {
		return Token{}, err
	}
	request := &iamcredentials.GenerateAccessTokenRequest{Scope: scopes, Delegates: m.delegateChain(w)}
	if lifetime > 0 {
		request.Lifetime = fmt.Sprintf("%ds", int(lifetime.Seconds()))
	}
	var token Token
	err = callUpstream(ctx, m.metrics, "generateAccessToken", func(ctx context.Context) error {
		call := m.calls.GenerateAccessToken(resource(w.GSA), request).Context(ctx)
		authorize(call.Header(), bearer)
		setQuotaProject(call.Header(), cmp.Or(w.QuotaProject, m.credential.quotaProject()))
		response, err := call.Do()
		if err != nil {
			return googleError("generate access token", m.refusedRequest(w), err)
		}
		expiry, err := time.Parse(time.RFC3339, response.ExpireTime)
		if err != nil {
			return &Error{Kind: Unavailable, Message: "Unable to generate access token; IAM's response has no expiry", Err: err}
		}
		token = NewToken(response.AccessToken, toLocalClock(expiry, response.Header, m.now()))
		token.origin = bearer.origin
		return nil
	})
	if err != nil {
		return Token{}, err
	}
	return token, nil
}

// IDToken implements [Source].
func (m *mint) IDToken(ctx context.Context, w identity.Workload, request IDTokenRequest) (Token, error) {
	if w.GSA == "" {
		return Token{}, notLinked(w, "Identity Tokens")
	}
	bearer, err := m.credential.bearer(ctx, w)
	if err != nil {
		return Token{}, err
	}
	var token Token
	err = callUpstream(ctx, m.metrics, "generateIdToken", func(ctx context.Context) error {
		// With the e-mail address, as Identity-Aware Proxy refuses tokens that lack it.
		call := m.calls.GenerateIdToken(resource(w.GSA), &iamcredentials.GenerateIdTokenRequest{
			Audience: request.Audience, IncludeEmail: true, Delegates: m.delegateChain(w)}).Context(ctx)
		authorize(call.Header(), bearer)
		setQuotaProject(call.Header(), cmp.Or(w.QuotaProject, m.credential.quotaProject()))
		response, err := call.Do()
		if err != nil {
			return googleError("generate identity token", m.refusedRequest(w), err)
		}
		claims, _, err := parseJWT(response.Token)
		if err != nil || claims.Expiry == nil {
			return &Error{Kind: Unavailable, Message: "Unable to generate identity token; IAM's response is not a JWT with an expiry", Err: err}
		}
		token = NewToken(response.Token, toLocalClock(claims.Expiry.Time(), response.Header, m.now()))
		token.Type, token.origin = "JWT", bearer.origin
		token = token.withOrigin(func(o *origin) { o.GSAUniqueID = claims.Subject })
		return nil
	})
	return token, err
}

// delegateChain is the chain of service accounts to the GSA: the operator's, then the
// KSA's. Each needs roles/iam.serviceAccountTokenCreator on the next.
func (m *mint) delegateChain(w identity.Workload) []string {
	var chain []string
	for _, email := range append(slices.Clone(m.delegates), annotatedDelegates(w)...) {
		chain = append(chain, resource(email))
	}
	return chain
}

// annotatedDelegates are the service accounts that the KSA's annotation names.
func annotatedDelegates(w identity.Workload) []string {
	return strings.FieldsFunc(w.Delegates, func(r rune) bool { return r == ',' })
}

// entryAccount is the service account that the KSA itself must be allowed to use: the
// first of its chain.
func entryAccount(w identity.Workload) string { return append(annotatedDelegates(w), w.GSA)[0] }

// refusedRequest describes a call for w. Its advice is the text that GKE adds to every refusal,
// and the missing binding.
func (m *mint) refusedRequest(w identity.Workload) refusedRequest {
	r := refusedRequest{gsa: w.GSA, caller: m.caller(w), quota: m.credential.quotaProject(), file: m.sourceFile, mayHide: true}
	if w.QuotaProject != "" {
		r.billing = w.KSA.Namespace + "/" + w.KSA.Name
	}
	if chain := append(slices.Clone(m.delegates), annotatedDelegates(w)...); len(chain) > 0 {
		r.binding = "It is reached through " + strings.Join(chain, ", ") +
			": each of these needs " + serviceAccountTokenCreator + " on the next, the last on " + w.GSA + ".\n"
	}
	r.binding += "This error could be caused by a missing IAM policy binding on the target IAM service account.\n" +
		m.missingBinding(w) +
		"\nFor more information, refer to the Workload Identity documentation:\n" +
		"\thttps://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity#authenticating_to"
	return r
}

// resource is the name of a GSA for IAM Credentials, which requires the wildcard.
func resource(gsa string) string { return "projects/-/serviceAccounts/" + gsa }

func authorize(h http.Header, bearer Token) { h.Set("Authorization", "Bearer "+bearer.Value()) }
