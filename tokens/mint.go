package tokens

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
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
	// unlinked is what a workload whose KSA names no GSA gets.
	unlinked(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error)
}

// mint is the innermost [Source]: it asks Google's IAM Credentials service.
type mint struct {
	base    base
	calls   *iamcredentials.ProjectsServiceAccountsService
	remedy  func(identity.Workload) string // for what IAM refuses
	metrics *metrics
}

func newMint(base base, endpoint string, client *http.Client, remedy func(identity.Workload) string, m *metrics) (*mint, error) {
	service, err := iamcredentials.NewService(context.Background(), option.WithHTTPClient(client), option.WithEndpoint(endpoint))
	if err != nil {
		return nil, fmt.Errorf("IAM Credentials client for %s: %w", endpoint, err)
	}
	return &mint{base: base, calls: service.Projects.ServiceAccounts, remedy: remedy, metrics: m}, nil
}

// AccessToken implements [Source].
func (m *mint) AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	if w.GSA == "" {
		return m.base.unlinked(ctx, w, scopes)
	}
	bearer, err := m.base.bearer(ctx, w)
	if err != nil {
		return Token{}, err
	}
	call := m.calls.GenerateAccessToken(resource(w.GSA), &iamcredentials.GenerateAccessTokenRequest{Scope: scopes}).Context(ctx)
	authorize(call.Header(), bearer)
	bill(call.Header(), w.QuotaProject)
	var token Token
	err = m.metrics.time("generateAccessToken", func() error {
		answer, err := call.Do()
		if err != nil {
			return m.explained(w, "generate access token", err)
		}
		expiry, err := time.Parse(time.RFC3339, answer.ExpireTime)
		if err != nil {
			return &Error{Kind: Unavailable, Message: "Unable to generate access token; IAM's answer has no expiry", Err: err}
		}
		token = NewToken(answer.AccessToken, expiry)
		return nil
	})
	return token, err
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
	// With the e-mail, as Identity-Aware Proxy refuses tokens without.
	call := m.calls.GenerateIdToken(resource(w.GSA), &iamcredentials.GenerateIdTokenRequest{Audience: request.Audience, IncludeEmail: true}).Context(ctx)
	authorize(call.Header(), bearer)
	bill(call.Header(), w.QuotaProject)
	var token Token
	err = m.metrics.time("generateIdToken", func() error {
		answer, err := call.Do()
		if err != nil {
			return m.explained(w, "generate identity token", err)
		}
		expiry, err := jwtExpiry(answer.Token)
		if err != nil {
			return &Error{Kind: Unavailable, Message: "Unable to generate identity token; IAM's answer is no JWT", Err: err}
		}
		token = NewToken(answer.Token, expiry)
		token.Type = "JWT"
		return nil
	})
	return token, err
}

// explained adds to a refusal what GKE adds, and the binding that is missing.
func (m *mint) explained(w identity.Workload, task string, err error) error {
	e := googleError(task, err)
	if errorReason(err) == "USER_PROJECT_DENIED" {
		e.Message += fmt.Sprintf("\nThe project is named by the annotation %s of service account %s/%s.", identity.AnnotationQuotaProject, w.KSA.Namespace, w.KSA.Name)
		return e
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
func bindingCommand(gsa, member string) string {
	return fmt.Sprintf("The binding of %s to role %s on %s can be added with:\n"+
		"gcloud iam service-accounts add-iam-policy-binding %s --role=%s --member=%q",
		member, workloadIdentityUser, gsa, gsa, workloadIdentityUser, member)
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

// jwtExpiry reads the exp claim of a JWT that came from Google over TLS, so that
// its signature need not be verified here.
func jwtExpiry(token string) (time.Time, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}, fmt.Errorf("%d parts instead of 3", len(parts))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}, fmt.Errorf("payload: %w", err)
	}
	var claims struct {
		Expiry int64 `json:"exp"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return time.Time{}, fmt.Errorf("claims: %w", err)
	}
	if claims.Expiry == 0 {
		return time.Time{}, fmt.Errorf("no exp claim")
	}
	return time.Unix(claims.Expiry, 0), nil
}
