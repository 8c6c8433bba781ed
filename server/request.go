package server

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/gorilla/mux"

	"gke-metadata-emulator/identity"
)

// defaultAccount is the alias under which each caller's service account is listed.
const defaultAccount = "default"

// request is a request for a key or a directory. Its workload is looked up when it
// is first needed: most keys need none.
type request struct {
	ctx      context.Context
	server   *Server
	conn     *conn
	endpoint *endpoint
	query    url.Values // nil if the request has none

	account   string // in the path; empty if the path has none
	attribute string // in the path, or the current one of a recursive response

	caller *identity.Workload // nil until it is looked up; constant afterwards
}

// begin makes r the request in progress on its connection.
func (s *Server) begin(r *http.Request, e *endpoint) (*request, error) {
	c, variables := connOf(r.Context()), mux.Vars(r)
	c.request = request{ctx: r.Context(), server: s, conn: c, endpoint: e, account: variables["account"], attribute: variables["attribute"]}
	var err error
	if r.URL.RawQuery != "" {
		c.request.query, err = parseQuery(r.URL.RawQuery)
	}
	return &c.request, err
}

// recursive reports whether the whole content of a directory is requested.
func (q *request) recursive() bool { return q.boolean("recursive") }

// encoded is the endpoint's current value in the requested form.
func (q *request) encoded() (encoded, error) {
	if err := q.checkAccount(); err != nil {
		return encoded{}, err
	}
	v, err := q.endpoint.value(q)
	if err != nil {
		return encoded{}, err
	}
	if token, ok := v.(*cachedToken); ok {
		return token.encoded, nil
	}
	if q.query.Get("alt") == "json" && !q.endpoint.directory && !q.endpoint.token {
		v = document{v.json()}
	}
	return encode(v)
}

// workload is the caller's. It waits for a caller that the cluster's watches have
// not announced yet, for at most Options.IdentityWait. The result is shared: callers
// must not change it.
func (q *request) workload() (*identity.Workload, error) {
	if q.caller != nil {
		return q.caller, nil
	}
	var err error
	q.caller, err = q.conn.caller(q.ctx, q.server.options.Identity, q.server.options.IdentityWait)
	return q.caller, err
}

// accounts are the two names of the caller's service account.
func (q *request) accounts() ([]string, error) {
	w, err := q.workload()
	if err != nil {
		return nil, err
	}
	return []string{defaultAccount, q.server.options.Facts().email(*w)}, nil
}

// checkAccount refuses a path that names an account other than the caller's.
func (q *request) checkAccount() error {
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
