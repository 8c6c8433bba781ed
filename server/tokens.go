package server

import (
	"slices"
	"strings"
	"time"

	"gke-metadata-emulator/tokens"
)

// accessToken returns the caller's access token. Unlike Compute Engine, GKE honours
// the scopes parameter.
func (q *request) accessToken() (value, error) {
	w, err := q.workload()
	if err != nil {
		return nil, err
	}
	scopes := q.server.defaultScopes
	if parameters := q.query["scopes"]; len(parameters) > 0 {
		requested := splitScopes(parameters)
		if slices.ContainsFunc(requested, invalidScope) {
			return nil, errScope
		}
		scopes = tokens.NewScopes(requested...)
	}
	token, err := q.server.options.Tokens.AccessToken(q.ctx, *w, scopes)
	if err != nil {
		return nil, err
	}
	lifetime := token.Expiry.Sub(q.server.options.Now())
	return q.conn.token.update(accessToken{token.Value(), max(int(lifetime/time.Second), 1), token.Type})
}

// accessToken is the wire form of RFC 6749 section 5.1. Go's library rejects a token
// with an expires_in of zero as incomplete.
type accessToken struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"` // whole seconds
	TokenType   string `json:"token_type"`
}

func (t accessToken) body() (string, []byte, error) { return document{t}.body() }
func (t accessToken) json() any                     { return t }
func (t accessToken) lines() []string               { return nil }

// cachedToken is the last access token sent on a connection, with its encoding. The
// encoding changes with expires_in, once a second.
type cachedToken struct {
	accessToken
	encoded encoded
}

func (c *cachedToken) update(token accessToken) (value, error) {
	if c.accessToken == token {
		return c, nil
	}
	e, err := encode(token)
	if err != nil {
		return nil, err
	}
	*c = cachedToken{token, e}
	return c, nil
}

// splitScopes splits the values of a scopes parameter. Clients separate scopes with
// commas, as documented, or with spaces.
func splitScopes(parameters []string) []string {
	return strings.FieldsFunc(strings.Join(parameters, ","), func(r rune) bool { return r == ',' || r == ' ' })
}

// invalidScope reports whether a scope has characters that RFC 6749, section 3.3, excludes.
// Refusals quote scopes, and an operator who pastes a command must not paste a pod's text.
func invalidScope(scope string) bool {
	return strings.ContainsFunc(scope, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}

// idToken returns an ID token for the requested audience.
func (q *request) idToken() (value, error) {
	audience := q.query.Get("audience")
	if audience == "" {
		return nil, errNoAudience
	}
	w, err := q.workload()
	if err != nil {
		return nil, err
	}
	token, err := q.server.options.Tokens.IDToken(q.ctx, *w, tokens.IDTokenRequest{
		Audience: audience,
		Format:   q.query.Get("format"),
		Licenses: q.boolean("licenses"),
	})
	if err != nil {
		return nil, err
	}
	return idToken{text(token.Value())}, nil
}
