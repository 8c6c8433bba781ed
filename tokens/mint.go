package tokens

import (
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

// base is the credential that a token of a GSA is minted with.
type base interface {
	// bearer is the credential that calls IAM for w.
	bearer(ctx context.Context, w identity.Workload) (Token, error)
	// unlinked is what a workload whose KSA names no GSA gets, which lives for life at
	// most, or as Google gives it where that is 0.
	unlinked(ctx context.Context, w identity.Workload, scopes Scopes, life time.Duration) (Token, error)
}

const serviceAccountTokenCreator = "roles/iam.serviceAccountTokenCreator"

// mint is the innermost [Source]: it asks Google's IAM Credentials service.
type mint struct {
	base      base
	calls     *iamcredentials.ProjectsServiceAccountsService
	delegates []string                              // through which the base reaches all GSAs
	life      func(identity.Workload) time.Duration // of an access token at most; 0 is as Google gives it
	remedy    func(identity.Workload) string        // for what IAM refuses
	now       func() time.Time
	metrics   *metrics
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
	life := m.life(w)
	if w.GSA == "" {
		return m.base.unlinked(ctx, w, scopes, life)
	}
	bearer, err := m.base.bearer(ctx, w)
	if err != nil {
		return Token{}, err
	}
	request := &iamcredentials.GenerateAccessTokenRequest{Scope: scopes, Delegates: m.through(w)}
	if life > 0 {
		request.Lifetime = fmt.Sprintf("%ds", int(life.Seconds()))
	}
	token := bearer // for its origin
	err = m.metrics.call(ctx, "generateAccessToken", func(ctx context.Context) error {
		call := m.calls.GenerateAccessToken(resource(w.GSA), request).Context(ctx)
		authorize(call.Header(), bearer)
		bill(call.Header(), w.QuotaProject)
		answer, err := call.Do()
		if err != nil {
			return m.explained(w, "generate access token", err)
		}
		expiry, err := time.Parse(time.RFC3339, answer.ExpireTime)
		if err != nil {
			return &Error{Kind: Unavailable, Message: "Unable to generate access token; IAM's answer has no expiry", Err: err}
		}
		token = NewToken(answer.AccessToken, here(expiry, answer.Header, m.now()))
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
	bearer, err := m.base.bearer(ctx, w)
	if err != nil {
		return Token{}, err
	}
	var token Token
	err = m.metrics.call(ctx, "generateIdToken", func(ctx context.Context) error {
		// With the e-mail, as Identity-Aware Proxy refuses tokens without.
		call := m.calls.GenerateIdToken(resource(w.GSA), &iamcredentials.GenerateIdTokenRequest{
			Audience: request.Audience, IncludeEmail: true, Delegates: m.through(w)}).Context(ctx)
		authorize(call.Header(), bearer)
		bill(call.Header(), w.QuotaProject)
		answer, err := call.Do()
		if err != nil {
			return m.explained(w, "generate identity token", err)
		}
		claims, err := claimsOf(answer.Token)
		if err != nil {
			return &Error{Kind: Unavailable, Message: "Unable to generate identity token; IAM's answer is no JWT", Err: err}
		}
		token = NewToken(answer.Token, here(time.Unix(claims.Expiry, 0), answer.Header, m.now()))
		token.Type, token.origin = "JWT", bearer.origin
		token = token.from(func(o *origin) { o.Account = claims.Subject })
		return nil
	})
	return token, err
}

// through is the chain of service accounts to the GSA: the operator's, then the
// KSA's. Each needs roles/iam.serviceAccountTokenCreator on the next.
func (m *mint) through(w identity.Workload) []string {
	var chain []string
	for _, email := range append(slices.Clone(m.delegates), delegates(w)...) {
		chain = append(chain, resource(email))
	}
	return chain
}

// delegates are those that the KSA's annotation names.
func delegates(w identity.Workload) []string {
	return strings.FieldsFunc(w.Delegates, func(r rune) bool { return r == ',' })
}

// first is the service account that the KSA itself must be allowed to use.
func first(w identity.Workload) string { return append(delegates(w), w.GSA)[0] }

// explained adds to a refusal what GKE adds, and the binding that is missing.
func (m *mint) explained(w identity.Workload, task string, err error) error {
	e := googleError(task, err)
	if errorReason(err) == "USER_PROJECT_DENIED" {
		e.Message += fmt.Sprintf("\nThe project is named by the annotation %s of service account %s/%s.", identity.AnnotationQuotaProject, w.KSA.Namespace, w.KSA.Name)
		return e
	}
	if (e.Kind == Denied || e.Kind == NotFound) && len(m.through(w)) > 0 {
		e.Message += "\nIt is reached through " + strings.Join(append(slices.Clone(m.delegates), delegates(w)...), ", ") +
			": each of these needs " + serviceAccountTokenCreator + " on the next, the last on " + w.GSA + "."
	}
	if e.Kind == Denied || e.Kind == NotFound {
		e.Message += "\nThis error could be caused by a missing IAM policy binding on the target IAM service account.\n" +
			m.remedy(w) +
			"\nFor more information, refer to the Workload Identity documentation:\n" +
			"\thttps://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity#authenticating_to\n"
	}
	return e
}

// bindingCommand says who lacks what, and the command that gives it.
func bindingCommand(gsa, role, member string) string {
	return fmt.Sprintf("The binding of %s to role %s on %s can be added with:\n"+
		"gcloud iam service-accounts add-iam-policy-binding %s --role=%s --member=%q",
		member, role, gsa, gsa, role, member)
}

// sourceRoleCommand says which role the operator's credential lacks.
func sourceRoleCommand(gsa, role string) string {
	return fmt.Sprintf("The metadata server's source credential needs %s on %s:\n"+
		"gcloud iam service-accounts add-iam-policy-binding %s --role=%s --member=MEMBER", role, gsa, gsa, role)
}

func resource(gsa string) string { return "projects/-/serviceAccounts/" + gsa }

func authorize(h http.Header, bearer Token) { h.Set("Authorization", "Bearer "+bearer.Value()) }

// bill says whose quota a call uses, as GKE does for these two calls; see "Use quota
// from a different project with Workload Identity Federation for GKE".
func bill(h http.Header, project string) {
	if project != "" {
		h.Set("X-Goog-User-Project", project)
	}
}
