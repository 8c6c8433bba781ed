package standin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Caller is what fakegoogle reports about a token.
type Caller struct {
	Principal string    `json:"principal"`
	Through   []string  `json:"through"`
	KSA       string    `json:"ksa"`
	Scopes    []string  `json:"scopes"`
	ExpiresAt time.Time `json:"expires_at"`
}

// HasScope reports whether the token has one of the scopes, which are given without
// the part that all OAuth scopes of Google share.
func (c *Caller) HasScope(scopes ...string) bool {
	return slices.ContainsFunc(c.Scopes, func(scope string) bool {
		return slices.Contains(scopes, strings.TrimPrefix(scope, "https://www.googleapis.com/auth/"))
	})
}

// Bearer returns the token of a request that has one.
func Bearer(r *http.Request) (string, bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return token, token != "" && strings.EqualFold(scheme, "Bearer")
}

// lookupTimeout is generous for a call to the same machine.
const lookupTimeout = 30 * time.Second

// maxBody is above the size of any answer.
const maxBody = 1 << 20

// Tokens looks up tokens in a fakegoogle.
type Tokens struct {
	base   string
	client *http.Client
}

// NewTokens uses the fakegoogle at a base URL, like http://127.0.0.1:8988. If client is
// nil, it makes one that never uses a proxy.
func NewTokens(base string, client *http.Client) (*Tokens, error) {
	if !strings.HasPrefix(base, "http://") && !strings.HasPrefix(base, "https://") {
		return nil, fmt.Errorf("it is %q: give the base URL of a running fakegoogle", base)
	}
	if client == nil {
		client = &http.Client{Transport: &http.Transport{}}
	}
	return &Tokens{base: strings.TrimSuffix(base, "/"), client: client}, nil
}

// Caller returns nil for a token that is unknown or has expired.
func (t *Tokens) Caller(ctx context.Context, token string) (*Caller, error) {
	status, body, err := t.Get(ctx, "/fakegoogle/v1/token", token)
	switch {
	case err != nil:
		return nil, err
	case status == http.StatusUnauthorized:
		return nil, nil
	case status != http.StatusOK:
		return nil, fmt.Errorf("%s answered %d; is it fakegoogle?", t.base, status)
	}
	c := new(Caller)
	if err := json.Unmarshal(body, c); err != nil {
		return nil, fmt.Errorf("%s: %w; is it fakegoogle?", t.base, err)
	}
	return c, nil
}

// Get gets a resource of fakegoogle. A token is sent unless it is empty. The status is
// 200, 401 or 404; others are errors.
func (t *Tokens) Get(ctx context.Context, path, token string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.base+path, nil)
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := t.client.Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("%w; is fakegoogle running there?", err)
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err == nil && !slices.Contains([]int{http.StatusOK, http.StatusUnauthorized, http.StatusNotFound}, response.StatusCode) {
		err = fmt.Errorf("%s answered %s; is it fakegoogle?", t.base, response.Status)
	}
	return response.StatusCode, body, err
}
