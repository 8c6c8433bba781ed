package fakegoogle

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// The grant types of Google's token endpoint that need no browser.
const (
	grantJWTBearer    = "urn:ietf:params:oauth:grant-type:jwt-bearer" // RFC 7523
	grantRefreshToken = "refresh_token"                               // RFC 6749, section 6
)

// userScopes are the scopes that gcloud auth application-default login requests.
const userScopes = "openid " + scopeUserInfoEmail + " " + scopeCloudPlatform + " https://www.googleapis.com/auth/sqlservice.login"

// AuthorizedUser logs a user in and returns the credentials file that gcloud auth
// application-default login would write.
//
// tokenURI becomes the file's token_uri, which golang.org/x/oauth2/google honours;
// default: none, as gcloud writes it. Google's newer library,
// cloud.google.com/go/auth, ignores token_uri: it needs DetectOptions.TokenURL.
func (s *Server) AuthorizedUser(email, tokenURI string) []byte {
	return s.AuthorizedUserWithQuota(email, tokenURI, "")
}

// AuthorizedUserWithQuota is [Server.AuthorizedUser] with a quota project in the file, as
// gcloud auth application-default set-quota-project adds it. It does not let the user
// bill the project.
func (s *Server) AuthorizedUserWithQuota(email, tokenURI, quotaProject string) []byte {
	u := &user{
		email:        strings.ToLower(email),
		subject:      newUniqueID(),
		clientID:     newUniqueID()[:12] + "-fake.apps.googleusercontent.com",
		clientSecret: "d-fake-" + randomText(12),
		refreshToken: "1//fake-" + randomText(48),
	}
	s.mu.Lock()
	s.users[u.refreshToken] = u
	s.mu.Unlock()

	file := map[string]string{
		"type":            "authorized_user",
		"account":         "", // gcloud leaves it empty
		"client_id":       u.clientID,
		"client_secret":   u.clientSecret,
		"refresh_token":   u.refreshToken,
		"universe_domain": "googleapis.com",
	}
	if tokenURI != "" {
		file["token_uri"] = tokenURI
	}
	if quotaProject != "" {
		file["quota_project_id"] = quotaProject
	}
	data, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		panic(err) // cannot happen: strings always marshal
	}
	return data
}

func (s *Server) oauth2Token(c *call) (any, error) {
	form, err := c.form()
	if err != nil {
		return nil, err
	}
	switch grantType := form.Get("grant_type"); grantType {
	case grantJWTBearer:
		if form.Get("assertion") == "" {
			return nil, oauthFailure("invalid_request", "Missing required parameter: assertion")
		}
		return s.redeemAssertion(c, form.Get("assertion"))
	case grantRefreshToken:
		id, secret, basic := c.BasicAuth()
		if !basic {
			id, secret = form.Get("client_id"), form.Get("client_secret")
		}
		return s.refresh(c, id, secret, form.Get("refresh_token"), form.Get("scope"))
	case "":
		return nil, oauthFailure("invalid_request", "Missing required parameter: grant_type")
	default:
		return nil, oauthFailure("unsupported_grant_type", "Invalid grant_type: %s", grantType)
	}
}

// assertion is the JWT that a client signs with a service account key: "Using OAuth
// 2.0 for Server to Server Applications".
type assertion struct {
	jwt.Claims
	Scope          string `json:"scope"`
	TargetAudience string `json:"target_audience"`
}

func (s *Server) redeemAssertion(c *call, text string) (any, error) {
	claims, owner, err := s.verifyAssertion(text)
	if err != nil {
		return nil, err
	}
	c.addLogAttr("principal", owner.member())
	if claims.TargetAudience != "" {
		token, err := s.idToken(owner, claims.TargetAudience, true)
		if err != nil {
			return nil, err
		}
		return map[string]string{"id_token": token}, nil
	}
	scopes := splitScopes(claims.Scope)
	if len(scopes) == 0 {
		return nil, oauthFailure("invalid_scope", "Empty or missing scope not allowed.")
	}
	if !allKnown(scopes) {
		return nil, oauthFailure("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
	}
	token, expiry := s.issue(owner.grant(grant{Grant: Grant{Scopes: scopes, QuotaProject: quotaProject(c.Request)}}), defaultTokenLifetime)
	return map[string]any{
		"access_token": token,
		"token_type":   "Bearer",
		"expires_in":   s.expiresIn(expiry),
	}, nil
}

func (s *Server) verifyAssertion(text string) (*assertion, *account, error) {
	parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, nil, oauthFailure("invalid_grant", "Invalid JWT: Failed to parse the assertion; only RS256 is supported.")
	}
	var claims assertion
	if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return nil, nil, oauthFailure("invalid_grant", "Invalid JWT: Failed to parse the assertion's claims.")
	}
	owner, key, err := s.assertionKey(claims.Issuer, parsed.Headers[0].KeyID)
	if err != nil {
		return nil, nil, err
	}
	if parsed.Claims(&key.private.PublicKey, &struct{}{}) != nil {
		return nil, nil, oauthFailure("invalid_grant", "Invalid JWT Signature.")
	}
	if len(claims.Audience) != 1 || claims.Audience[0] != key.tokenURI {
		return nil, nil, oauthFailure("invalid_grant", "Invalid JWT: Failed audience check. The right audience is %s", key.tokenURI)
	}
	if now := s.now(); !isCurrent(&claims.Claims, now) || claims.Expiry.Time().Sub(claims.IssuedAt.Time()) > time.Hour {
		return nil, nil, oauthFailure("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.")
	}
	if claims.Subject != "" && !strings.EqualFold(claims.Subject, owner.email) {
		// Domain-wide delegation, which no account here has.
		return nil, nil, &oauthError{
			Status:      http.StatusUnauthorized,
			Code:        "unauthorized_client",
			Description: "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of the scopes requested.",
		}
	}
	return &claims, owner, nil
}

// assertionKey returns the account and the key that an assertion names. It does not
// create accounts with AllowAll: a new account has no keys.
func (s *Server) assertionKey(email, keyID string) (*account, *accountKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner, ok := s.accounts[strings.ToLower(email)]
	if !ok || owner.disabled { // the same text for a disabled account is inferred
		return nil, nil, oauthFailure("invalid_grant", "Invalid grant: account not found")
	}
	key, ok := owner.keys[keyID]
	if !ok {
		return nil, nil, oauthFailure("invalid_grant", "Invalid JWT Signature.")
	}
	return owner, key, nil
}

func (s *Server) refresh(c *call, clientID, clientSecret, refreshToken, scope string) (any, error) {
	if refreshToken == "" {
		return nil, oauthFailure("invalid_request", "Missing required parameter: refresh_token")
	}
	u, err := s.refreshTokenUser(clientID, clientSecret, refreshToken)
	if err != nil {
		return nil, err
	}
	scopes := splitScopes(userScopes)
	if requested := splitScopes(scope); len(requested) > 0 {
		// A refresh may narrow the scope, never widen it (RFC 6749, section 6).
		if slices.ContainsFunc(requested, func(r string) bool { return !slices.Contains(scopes, r) }) {
			return nil, oauthFailure("invalid_scope", "Bad Request")
		}
		scopes = requested
	}
	member := "user:" + u.email
	c.addLogAttr("principal", member)
	token, expiry := s.issue(grant{
		Grant:   Grant{Principal: member, Scopes: scopes, QuotaProject: quotaProject(c.Request)},
		members: []string{member},
		email:   u.email,
		subject: u.subject,
		client:  u.clientID,
	}, defaultTokenLifetime)
	return map[string]any{
		"access_token": token,
		"token_type":   "Bearer",
		"expires_in":   s.expiresIn(expiry),
		"scope":        strings.Join(scopes, " "),
	}, nil
}

// refreshTokenUser returns the user of a refresh token, which only the client that
// received it can use.
func (s *Server) refreshTokenUser(clientID, clientSecret, refreshToken string) (*user, error) {
	refuse := func(code, description string) (*user, error) {
		return nil, &oauthError{Status: http.StatusUnauthorized, Code: code, Description: description}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var client *user
	for _, u := range s.users {
		if u.clientID == clientID {
			client = u
		}
	}
	switch {
	case client == nil:
		return refuse("invalid_client", "The OAuth client was not found.")
	case client.clientSecret != clientSecret:
		return refuse("invalid_client", "Unauthorized")
	}
	u, ok := s.users[refreshToken]
	switch {
	case !ok:
		return nil, oauthFailure("invalid_grant", "Token has been expired or revoked.")
	case u.clientID != clientID:
		return refuse("unauthorized_client", "Unauthorized")
	case u.ended:
		// "reauth related error", for example vm0-ai/vm0#32128, 2026-09-07; the URI is
		// the help page on the session length.
		return nil, &oauthError{
			Status: http.StatusBadRequest, Code: "invalid_grant", Description: "reauth related error (invalid_rapt)",
			URI: "https://support.google.com/a/answer/9368756", Subtype: "invalid_rapt",
		}
	}
	return u, nil
}
