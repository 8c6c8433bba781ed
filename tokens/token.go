package tokens

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"gke-metadata-emulator/identity"
)

// CloudPlatform is the scope that includes everything that IAM allows.
const CloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

const userinfoEmail = "https://www.googleapis.com/auth/userinfo.email"

// Token is a credential. Nothing but [Token.Value] shows it: it prints, logs and
// marshals as a placeholder.
type Token struct {
	value  func() string // a function, as printers do not look into it even if they cannot call methods
	Type   string        // "Bearer" for access tokens
	Expiry time.Time

	origin *origin // nil if nothing is known
	cached bool    // it was there before the request
}

// origin is the audit log's knowledge of a token besides its value. It is shared and
// immutable.
type origin struct {
	Decision      string // the policy's reasons
	GrantedScopes string // empty unless the policy narrowed them
	Principal     string // of the request, as in Google's audit log
	CredentialID  string // of the KSA token, as in the API server's audit log
	GSAUniqueID   string // as in Google's audit log
}

// withOrigin returns the token with its origin changed.
func (t Token) withOrigin(change func(*origin)) Token {
	o := origin{}
	if t.origin != nil {
		o = *t.origin
	}
	change(&o)
	t.origin = &o
	return t
}

// NewToken makes a token of type Bearer.
func NewToken(value string, expiry time.Time) Token {
	return Token{value: func() string { return value }, Type: "Bearer", Expiry: expiry}
}

// Value is the credential itself. It is only for the wire.
func (t Token) Value() string {
	if t.value == nil {
		return ""
	}
	return t.value()
}

const redacted = "[redacted]"

// Format implements [fmt.Formatter] for every verb.
func (Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements [slog.LogValuer].
func (Token) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText keeps the token out of every encoding.
func (Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Scopes is a set of OAuth 2.0 scopes, sorted, each once.
type Scopes []string

// NewScopes returns the set of the names given, or [DefaultScopes] if there are none.
func NewScopes(names ...string) Scopes {
	set := make(Scopes, 0, len(names))
	for _, name := range names {
		if name = strings.TrimSpace(name); name != "" {
			set = append(set, name)
		}
	}
	if len(set) == 0 {
		return DefaultScopes()
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// DefaultScopes are the scopes of a request that names none.
func DefaultScopes() Scopes { return Scopes{CloudPlatform, userinfoEmail} }

// IDTokenRequest describes an ID token.
type IDTokenRequest struct {
	Audience string
	Format   string // "full" or "standard"; IAM gives both the same claims
	Licenses bool   // has no effect off Compute Engine
}

// Source issues tokens to workloads. Its errors are of type [*Error].
type Source interface {
	AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error)
	IDToken(ctx context.Context, w identity.Workload, request IDTokenRequest) (Token, error)
}
