package server

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

const defaultAccount = "default"

// tokenWait is how long a request waits for a token. Google's libraries give up
// after 0.5 to 5 s; what they wait for goes on without them.
const tokenWait = 10 * time.Second

// request is one request for a key or a directory. Its workload is found when it
// is first needed: most keys need none.
type request struct {
	ctx    context.Context
	server *Server
	conn   *connection
	query  url.Values
	of     endpoint // what is asked for

	account   string    // the name in the path, where it has one
	attribute string    // likewise, and the one that a recursive answer is at
	patience  time.Time // what is not known yet is waited for until then

	resolved *identity.Workload
}

func (s *Server) request(r *http.Request, of endpoint) *request {
	names := mux.Vars(r)
	var query url.Values
	if r.URL.RawQuery != "" {
		query = r.URL.Query()
	}
	return &request{
		ctx: r.Context(), server: s, conn: connectionOf(r.Context()), query: query, of: of,
		account: names["account"], attribute: names["attribute"], patience: time.Now().Add(s.options.IdentityWait),
	}
}

// recursive says whether a directory's whole content is asked for.
func (q *request) recursive() bool { return q.query.Get("recursive") == "true" }

// answer is what the endpoint says, in the form that was asked for.
func (q *request) answer() (encoded, error) {
	if err := q.ownAccount(); err != nil {
		return encoded{}, err
	}
	v, err := q.of.value(q)
	if err != nil {
		return encoded{}, err
	}
	if token, ok := v.(accessToken); ok {
		return q.conn.answer(token)
	}
	if q.query.Get("alt") == "json" && !q.of.directory && !q.of.listedOnly {
		v = object{v.recursive()}
	}
	return encode(v)
}

// workload is who calls. It waits, bounded, for what the cluster has not told yet.
func (q *request) workload() (*identity.Workload, error) {
	if q.resolved != nil {
		return q.resolved, nil
	}
	if q.resolved = q.conn.known(); q.resolved != nil {
		return q.resolved, nil
	}
	ctx := patient(q.ctx, q.server.options.IdentityWait)
	defer ctx.end()
	var err error
	q.resolved, err = q.conn.caller(ctx, q.server.options.Identity)
	return q.resolved, err
}

// accounts are the names of the caller's service account.
func (q *request) accounts() ([]string, error) {
	w, err := q.workload()
	if err != nil {
		return nil, err
	}
	return []string{defaultAccount, q.server.options.Facts().email(*w)}, nil
}

// ownAccount refuses a path that names another account than the caller's.
func (q *request) ownAccount() error {
	if q.account == "" || q.account == defaultAccount {
		return nil
	}
	names, err := q.accounts()
	if err != nil {
		return err
	}
	// Python collapses the double slash of a principal's name.
	if strings.ReplaceAll(names[1], "//", "/") != strings.ReplaceAll(q.account, "//", "/") {
		return errNotFound
	}
	return nil
}

func (q *request) email() (value, error) {
	names, err := q.accounts()
	if err != nil {
		return nil, err
	}
	return text(names[1]), nil
}

// accessToken answers with the caller's access token. Unlike Compute Engine, GKE
// honours the scopes parameter.
func (q *request) accessToken() (value, error) {
	w, err := q.workload()
	if err != nil {
		return nil, err
	}
	ctx := patient(q.ctx, tokenWait)
	defer ctx.end()
	wanted := q.server.scopes
	if asked := q.query["scopes"]; len(asked) > 0 {
		wanted = tokens.NewScopes(scopes(asked)...)
	}
	token, err := q.server.options.Tokens.AccessToken(ctx, *w, wanted)
	if err != nil {
		return nil, err
	}
	left := token.Expiry.Sub(q.server.options.Now())
	return accessToken{token.Value(), max(int(left/time.Second), 1), token.Type}, nil
}

// accessToken is the wire form of RFC 6749 section 5.1. Go's library takes an
// expires_in of zero for an incomplete token.
type accessToken struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"` // whole seconds
	TokenType   string `json:"token_type"`
}

func (t accessToken) body() (string, []byte, error) { return object{t}.body() }
func (t accessToken) recursive() any                { return t }
func (t accessToken) texts() []string               { return nil }

// scopes splits what clients send: commas, as documented, or spaces.
func scopes(parameters []string) []string {
	return strings.FieldsFunc(strings.Join(parameters, ","), func(r rune) bool { return r == ',' || r == ' ' })
}

// idToken answers with an ID token for the audience asked for.
func (q *request) idToken() (value, error) {
	audience := q.query.Get("audience")
	if audience == "" {
		return nil, errNoAudience
	}
	w, err := q.workload()
	if err != nil {
		return nil, err
	}
	ctx := patient(q.ctx, tokenWait)
	defer ctx.end()
	token, err := q.server.options.Tokens.IDToken(ctx, *w, tokens.IDTokenRequest{
		Audience: audience,
		Format:   q.query.Get("format"),
		Licenses: strings.EqualFold(q.query.Get("licenses"), "true"),
	})
	if err != nil {
		return nil, err
	}
	return text(token.Value()), nil
}
