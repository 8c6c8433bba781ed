package tokens

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"

	"gke-metadata-emulator/identity"
)

// Policy decides which KSA may use which GSA, where Google's IAM does not see the
// KSA because an operator's credential stands in between.
type Policy interface {
	// Allow says why the KSA of w may use w.GSA. Where it may not it returns an error
	// of type [*Error] that names what is missing and how to add it.
	Allow(ctx context.Context, w identity.Workload) (why string, err error)
}

// guarded asks the policies before anything is minted: the operator's rules, which
// hold in all modes, and where Google's IAM does not see the KSA a [Policy] too.
type guarded struct {
	next    Source
	flags   *Rules                 // that never change
	file    *atomic.Pointer[Rules] // as it is now
	policy  Policy
	metrics *metrics
}

// AccessToken implements [Source].
func (g guarded) AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	granted, why, err := g.scopes(w, scopes)
	if err == nil {
		var allowed []string
		allowed, err = g.allow(ctx, w)
		why = append(allowed, why...)
	}
	narrowed := !slices.Equal(granted, scopes)
	g.count(narrowed, err)
	if err != nil {
		return Token{}, err
	}
	token, err := g.next.AccessToken(ctx, w, granted)
	if err != nil {
		return Token{}, decided(err, why)
	}
	return token.from(func(o *origin) {
		o.Why = strings.Join(why, "; ")
		if narrowed {
			o.Scopes = strings.Join(granted, " ")
		}
	}), nil
}

// IDToken implements [Source].
func (g guarded) IDToken(ctx context.Context, w identity.Workload, request IDTokenRequest) (Token, error) {
	why, err := g.allow(ctx, w)
	g.count(false, err)
	if err != nil {
		return Token{}, err
	}
	token, err := g.next.IDToken(ctx, w, request)
	if err != nil {
		return Token{}, decided(err, why)
	}
	return token.from(func(o *origin) { o.Why = strings.Join(why, "; ") }), nil
}

// allow says why the KSA may use the GSA.
func (g guarded) allow(ctx context.Context, w identity.Workload) (why []string, err error) {
	if w.GSA == "" {
		return []string{"the KSA's own token is no GSA's"}, nil
	}
	for _, rules := range []*Rules{g.flags, g.file.Load()} {
		reason, err := rules.allow(w)
		if err != nil {
			return nil, err
		}
		why = append(why, reason...)
	}
	if g.policy == nil {
		return append(why, "Google's IAM decides"), nil
	}
	reason, err := g.policy.Allow(ctx, w)
	return append(why, reason), err
}

// scopes narrows what is asked for to what the rules leave.
func (g guarded) scopes(w identity.Workload, scopes Scopes) (granted Scopes, why []string, err error) {
	granted = scopes
	for _, rules := range []*Rules{g.flags, g.file.Load()} {
		var reason string
		if granted, reason, err = rules.narrow(w, granted); err != nil {
			return nil, nil, err
		}
		if reason != "" {
			why = append(why, reason)
		}
	}
	return granted, why, nil
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

// decided adds the policy's reasons to the failure of what it allowed, for the audit log.
func decided(err error, why []string) error {
	var e *Error
	if !errors.As(err, &e) || e.why != "" {
		return err
	}
	explained := *e
	explained.why = strings.Join(why, "; ")
	return &explained
}

// AllowAll is the policy that any KSA may use any GSA that the credential reaches.
type AllowAll struct{}

// Allow implements [Policy].
func (AllowAll) Allow(context.Context, identity.Workload) (string, error) {
	return "no policy stands before the source credential", nil
}

// listed is the policy that the file's list of who may use what is all there is.
type listed struct{ file *atomic.Pointer[Rules] }

// Allow implements [Policy]. What a list allows the rules themselves have decided.
func (l listed) Allow(_ context.Context, w identity.Workload) (string, error) {
	if rules := l.file.Load(); rules == nil || rules.allowed == nil {
		return "", unlisted(w)
	}
	return "the file is all that decides", nil
}
