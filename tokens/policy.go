package tokens

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"gke-metadata-emulator/identity"
)

// Policy decides which KSA may use which GSA in impersonation mode: Google's IAM sees the
// operator's credential and not the KSA.
type Policy interface {
	// Name distinguishes the policy from others; see [Engine.Fingerprint].
	Name() string
	// Allow returns the reason if the KSA of w may use w.GSA. Otherwise it returns an
	// [*Error] that names the missing permission and the way to add it.
	Allow(ctx context.Context, w identity.Workload) (reason string, err error)
}

// guarded consults the policies before a token is minted: the operator's rules in all
// modes, and a [Policy] in impersonation mode.
type guarded struct {
	next            Source
	limits          *Rules                 // fixed
	rules           *atomic.Pointer[Rules] // replaced by [Engine.SetRules]
	policy          Policy                 // nil in federation mode
	anyQuotaProject bool                   // for namespaces without a list
	log             *slog.Logger
	metrics         *metrics
}

// AccessToken implements [Source].
func (g guarded) AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	granted, reasons, err := g.narrow(w, scopes)
	if err == nil {
		var allowed []string
		allowed, err = g.allow(ctx, w)
		reasons = append(allowed, reasons...)
	}
	narrowed := !slices.Equal(granted, scopes)
	g.count(narrowed, err)
	if err != nil {
		return Token{}, err
	}
	w, ignored := g.withQuotaProject(w)
	reasons = append(reasons, ignored...)
	token, err := g.next.AccessToken(ctx, w, granted)
	if err != nil {
		return Token{}, withDecision(err, reasons)
	}
	return token.withOrigin(func(o *origin) {
		o.Decision = strings.Join(reasons, "; ")
		if narrowed {
			o.GrantedScopes = strings.Join(granted, " ")
		}
	}), nil
}

// IDToken implements [Source].
func (g guarded) IDToken(ctx context.Context, w identity.Workload, request IDTokenRequest) (Token, error) {
	reasons, err := g.allow(ctx, w)
	g.count(false, err)
	if err != nil {
		return Token{}, err
	}
	w, ignored := g.withQuotaProject(w)
	reasons = append(reasons, ignored...)
	token, err := g.next.IDToken(ctx, w, request)
	if err != nil {
		return Token{}, withDecision(err, reasons)
	}
	return token.withOrigin(func(o *origin) { o.Decision = strings.Join(reasons, "; ") }), nil
}

// allow returns why the KSA may use the GSA.
func (g guarded) allow(ctx context.Context, w identity.Workload) (reasons []string, err error) {
	if w.GSA == "" {
		return []string{"the KSA's own token needs no GSA"}, nil
	}
	for _, rules := range []*Rules{g.limits, g.rules.Load()} {
		more, err := rules.allow(w)
		if err != nil {
			return nil, err
		}
		reasons = append(reasons, more...)
	}
	if g.policy == nil {
		return append(reasons, "Google's IAM decides"), nil
	}
	reason, err := g.policy.Allow(ctx, w)
	return append(reasons, reason), err
}

// narrow reduces the requested scopes to those that the rules allow.
func (g guarded) narrow(w identity.Workload, scopes Scopes) (granted Scopes, reasons []string, err error) {
	granted = scopes
	for _, rules := range []*Rules{g.limits, g.rules.Load()} {
		var reason string
		if granted, reason, err = rules.narrow(w, granted); err != nil {
			return nil, nil, err
		}
		if reason != "" {
			reasons = append(reasons, reason)
		}
	}
	return granted, reasons, nil
}

func (g guarded) count(narrowed bool, err error) {
	decision := "granted"
	var e *Error
	switch {
	case errors.As(err, &e) && e.Permanent():
		decision = "refused"
	case err != nil:
		decision = "unknown"
	case narrowed:
		decision = "narrowed"
	}
	g.metrics.decisions.WithLabelValues(decision).Inc()
}

// withDecision adds the policy's reasons to a later failure, for the audit log.
func withDecision(err error, reasons []string) error {
	var e *Error
	if !errors.As(err, &e) || e.decision != "" {
		return err
	}
	decided := *e
	decided.decision = strings.Join(reasons, "; ")
	return &decided
}

// AllowAll is the policy that lets every KSA use every GSA that the source credential
// reaches.
type AllowAll struct{}

// Name implements [Policy].
func (AllowAll) Name() string { return "allow-all" }

// Allow implements [Policy].
func (AllowAll) Allow(context.Context, identity.Workload) (string, error) {
	return "no policy guards the source credential", nil
}

// filePolicy is the policy that only the list in the rules decides.
type filePolicy struct{ rules *atomic.Pointer[Rules] }

// Name implements [Policy].
func (filePolicy) Name() string { return "file" }

// Allow implements [Policy]. The rules themselves have already checked the list, if there
// is one.
func (p filePolicy) Allow(_ context.Context, w identity.Workload) (string, error) {
	if rules := p.rules.Load(); rules == nil || rules.allowed == nil {
		return "", notListed(w)
	}
	return "the policy file decides", nil
}
