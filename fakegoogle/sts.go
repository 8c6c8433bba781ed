package fakegoogle

import (
	"encoding/json"
	"mime"
	"net/url"
	"slices"
)

// The identifiers of RFC 8693, "OAuth 2.0 Token Exchange".
const (
	grantTokenExchange   = "urn:ietf:params:oauth:grant-type:token-exchange"
	tokenTypeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
	tokenTypeJWT         = "urn:ietf:params:oauth:token-type:jwt"
	tokenTypeIDToken     = "urn:ietf:params:oauth:token-type:id_token"
)

// exchangeRequest is a token exchange. In Google's reference it is JSON with
// camelCase names, in RFC 8693 a form with snake_case names; clients use both.
type exchangeRequest struct {
	GrantType          string `json:"grantType"`
	Audience           string `json:"audience"`
	Scope              string `json:"scope"`
	RequestedTokenType string `json:"requestedTokenType"`
	SubjectToken       string `json:"subjectToken"`
	SubjectTokenType   string `json:"subjectTokenType"`
	ActorToken         string `json:"actorToken"`
	ActorTokenType     string `json:"actorTokenType"`
	Options            string `json:"options"`
}

func parseExchange(c *call) (*exchangeRequest, error) {
	mediaType, _, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil {
		mediaType = ""
	}
	if mediaType == "application/json" {
		var request exchangeRequest
		return &request, decode(c.body, &request)
	}
	form, err := c.form()
	if err != nil {
		return nil, err
	}
	return &exchangeRequest{
		GrantType:          form.Get("grant_type"),
		Audience:           form.Get("audience"),
		Scope:              form.Get("scope"),
		RequestedTokenType: form.Get("requested_token_type"),
		SubjectToken:       form.Get("subject_token"),
		SubjectTokenType:   form.Get("subject_token_type"),
		ActorToken:         form.Get("actor_token"),
		ActorTokenType:     form.Get("actor_token_type"),
		Options:            form.Get("options"),
	}, nil
}

// exchange is the token method of the Security Token Service.
func (s *Server) exchange(c *call) (any, error) {
	request, err := parseExchange(c)
	if err != nil {
		return nil, err
	}
	optionsProject, err := request.check()
	if err != nil {
		return nil, err
	}
	provider, err := s.lookupProvider(request.Audience)
	if err != nil {
		return nil, err
	}
	c.addLogAttr("provider", provider.Name)
	// The refusal has the shape of all Google APIs, not that of RFC 6749: inferred from the
	// service's own failures.
	if err := s.checkAPI(poolProject(provider.pool), ServiceSTS); err != nil {
		return nil, err
	}
	now := s.now()
	claims, err := provider.verify(c.Context(), request.SubjectToken, now, s.issuers)
	if err != nil {
		return nil, err
	}

	granted := provider.grant(claims)
	granted.Scopes = splitScopes(request.Scope)
	granted.QuotaProject = quotaProject(c.Request)
	if granted.QuotaProject == "" {
		granted.QuotaProject = optionsProject
	}
	c.addLogAttr("principal", granted.Principal)
	// The federated token does not outlive the subject token: inferred, and a check of
	// package googlecheck.
	token, expiry := s.issue(granted, min(defaultTokenLifetime, claims.Expiry.Time().Sub(now)))
	return map[string]any{
		"access_token":      token,
		"issued_token_type": tokenTypeAccessToken,
		"token_type":        "Bearer",
		"expires_in":        s.expiresIn(expiry),
	}, nil
}

// check validates everything except the subject token, and returns the quota
// project that the options name.
func (r *exchangeRequest) check() (quotaProject string, err error) {
	switch {
	case r.GrantType != grantTokenExchange:
		return "", oauthFailure("unsupported_grant_type", "Invalid value of grant_type in request.")
	case r.RequestedTokenType != tokenTypeAccessToken:
		return "", oauthFailure("invalid_request", "Invalid value of requested_token_type in request.")
	case r.SubjectTokenType != tokenTypeJWT && r.SubjectTokenType != tokenTypeIDToken:
		return "", oauthFailure("invalid_request", "Invalid value of subject_token_type in request.")
	case r.SubjectToken == "":
		return "", oauthFailure("invalid_request", "Missing required parameter: subject_token")
	case r.ActorToken != "" || r.ActorTokenType != "":
		return "", oauthFailure("invalid_request", "Actor tokens are not supported for workload identity pools.")
	case len(splitScopes(r.Scope)) == 0:
		return "", oauthFailure("invalid_request", "Scope(s) must be provided.")
	case !allKnown(splitScopes(r.Scope)):
		return "", oauthFailure("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
	}
	if r.Options == "" {
		return "", nil
	}
	var options struct {
		UserProject string `json:"userProject"`
	}
	if err := json.Unmarshal([]byte(r.Options), &options); err != nil {
		// Older clients URL-encode the JSON a second time ("URL-encoded JSON").
		unescaped, unescapeErr := url.QueryUnescape(r.Options)
		if unescapeErr != nil || json.Unmarshal([]byte(unescaped), &options) != nil {
			return "", oauthFailure("invalid_request", "Invalid value of options in request.")
		}
	}
	return options.UserProject, nil
}

func allKnown(scopes []string) bool {
	return !slices.ContainsFunc(scopes, func(scope string) bool { return !knownScope(scope) })
}
