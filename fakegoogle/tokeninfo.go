package fakegoogle

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// tokenInfo describes a token as Google's debugging endpoint does: every value is a
// string. That Google's does not know federated tokens is inferred, so this one does not
// either; /fakegoogle/v1/token does.
func (s *Server) tokenInfo(c *call) (any, error) {
	parameters := c.URL.Query()
	if c.Header.Get("Content-Type") != "" {
		form, err := c.form()
		if err != nil {
			return nil, err
		}
		maps.Copy(parameters, form)
	}
	if idToken := parameters.Get("id_token"); idToken != "" {
		return s.idTokenInfo(idToken)
	}
	accessToken := parameters.Get("access_token")
	if accessToken == "" {
		accessToken, _ = bearerToken(c.Request)
	}
	return s.accessTokenInfo(accessToken)
}

func (s *Server) accessTokenInfo(token string) (any, error) {
	granted, live := s.lookup(token)
	if !live || granted.email == "" || s.holderDisabled(granted) {
		return nil, invalidToken()
	}
	info := map[string]string{
		"azp":         granted.subject,
		"aud":         granted.subject,
		"scope":       strings.Join(granted.Scopes, " "),
		"exp":         strconv.FormatInt(granted.Expiry.Unix(), 10),
		"expires_in":  strconv.Itoa(s.expiresIn(granted.Expiry)),
		"access_type": "online",
	}
	if granted.client != "" {
		info["azp"], info["aud"], info["access_type"] = granted.client, granted.client, "offline"
	}
	// The identity is included only if the scopes permit it.
	email := slices.Contains(granted.Scopes, scopeUserInfoEmail) || slices.Contains(granted.Scopes, "email")
	if email {
		info["email"], info["email_verified"] = granted.email, "true"
	}
	if email || slices.Contains(granted.Scopes, "openid") {
		info["sub"] = granted.subject
	}
	return info, nil
}

func (s *Server) idTokenInfo(token string) (any, error) {
	key, err := s.idTokenKey()
	if err != nil {
		return nil, err
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, invalidToken()
	}
	var claims struct {
		jwt.Claims
		Azp           string `json:"azp"`
		Email         string `json:"email"`
		EmailVerified bool   `json:"email_verified"`
	}
	if parsed.Claims(&key.private.PublicKey, &claims) != nil || !isCurrent(&claims.Claims, s.now()) {
		return nil, invalidToken()
	}
	info := map[string]string{
		"iss": claims.Issuer,
		"aud": strings.Join(claims.Audience, " "),
		"azp": claims.Azp,
		"sub": claims.Subject,
		"iat": strconv.FormatInt(claims.IssuedAt.Time().Unix(), 10),
		"exp": strconv.FormatInt(claims.Expiry.Time().Unix(), 10),
		"alg": parsed.Headers[0].Algorithm,
		"kid": parsed.Headers[0].KeyID,
		"typ": "JWT",
	}
	if claims.Email != "" {
		info["email"], info["email_verified"] = claims.Email, strconv.FormatBool(claims.EmailVerified)
	}
	return info, nil
}

func invalidToken() error { return oauthFailure("invalid_token", "Invalid Value") }
