package tokens

import (
	"context"

	"gke-metadata-emulator/identity"
)

// Policy decides which KSA may use which GSA, where Google's IAM does not see the
// KSA because an operator's credential stands in between.
type Policy interface {
	// Allow returns nil when the KSA of w may use w.GSA, and otherwise an error of
	// type [*Error] that names what is missing and how to add it.
	Allow(ctx context.Context, w identity.Workload) error
}

// guarded asks the policy before anything is minted for a GSA.
type guarded struct {
	next   Source
	policy Policy
}

// AccessToken implements [Source].
func (g guarded) AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	if err := g.allow(ctx, w); err != nil {
		return Token{}, err
	}
	return g.next.AccessToken(ctx, w, scopes)
}

// IDToken implements [Source].
func (g guarded) IDToken(ctx context.Context, w identity.Workload, request IDTokenRequest) (Token, error) {
	if err := g.allow(ctx, w); err != nil {
		return Token{}, err
	}
	return g.next.IDToken(ctx, w, request)
}

func (g guarded) allow(ctx context.Context, w identity.Workload) error {
	if w.GSA == "" {
		return nil // the KSA's own token is no GSA's
	}
	return g.policy.Allow(ctx, w)
}

// AllowAll is the policy that any KSA may use any GSA that the credential reaches.
type AllowAll struct{}

// Allow implements [Policy].
func (AllowAll) Allow(context.Context, identity.Workload) error { return nil }
