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

// CloudPlatform is the scope of everything that IAM allows.
const CloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

const userinfoEmail = "https://www.googleapis.com/auth/userinfo.email"

// Token is a credential. Nothing but [Token.Value] shows it: it prints, logs and
// marshals as a placeholder.
type Token struct {
	value  func() string // which no printer looks into, also where it may not call methods
	Type   string        // "Bearer" for access tokens
	Expiry time.Time

	origin *origin // nil where nothing is known of it
	cached bool    // it was there before it was asked for
}

// origin is what the audit log says of a token beside its value. It is shared and
// never changed.
type origin struct {
	Why        string // the policy's decision
	Scopes     string // that it has, where the policy took some away
	Principal  string // as Google's audit log names who asked for it
	Credential string // the ID of the KSA token, as the API server's audit log has it
	Account    string // the GSA's unique ID, as Google's audit log has it
}

// from returns the token with its origin changed.
func (t Token) from(change func(*origin)) Token {
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

// Value is the credential itself, for the wire only.
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

// NewScopes makes a set of the names given; without any it is [DefaultScopes].
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

// DefaultScopes are those of a workload that asks for none.
func DefaultScopes() Scopes { return Scopes{CloudPlatform, userinfoEmail} }

// IDTokenRequest says what an ID token is to hold.
type IDTokenRequest struct {
	Audience string
	Format   string // "full" or "standard"; IAM gives both the same claims
	Licenses bool   // has no effect off Compute Engine
}

// Source gives tokens to workloads. Its errors are of type [*Error].
type Source interface {
	AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error)
	IDToken(ctx context.Context, w identity.Workload, request IDTokenRequest) (Token, error)
}
