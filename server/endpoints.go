package server

import (
	"cmp"
	"time"

	"gke-metadata-emulator/tokens"
)

// endpoint is a key of the metadata tree, or a directory.
type endpoint struct {
	// path is the key's path below /computeMetadata/v1/. {account} represents both
	// names of the caller's service account, default and its e-mail address;
	// {attribute} represents each of the operator's attributes.
	path string
	// value reads the key. Its errors go through the table of errors.
	value func(*request) (value, error)
	// token marks a token: it is listed but left out of recursive responses, it has
	// one form only, and wait_for_change does not support it.
	token      bool
	directory  bool
	attributes func(Facts) map[string]string // the operator's, for an {attribute}
}

// endpoints is the table of all keys. Keys that GKE does not serve are left out:
// software tells GKE from Compute Engine by a missing key.
func (s *Server) endpoints() []endpoint {
	return []endpoint{
		{path: "instance/attributes/cluster-location", value: fact(func(f Facts) value { return text(f.ClusterLocation) })},
		{path: "instance/attributes/cluster-name", value: fact(func(f Facts) value { return text(f.ClusterName) })},
		{path: "instance/attributes/cluster-uid", value: fact(func(f Facts) value { return text(f.ClusterUID) })},
		attributes("instance/attributes/{attribute}", func(f Facts) map[string]string { return f.InstanceAttributes }),
		{path: "instance/hostname", value: fact(func(f Facts) value { return text(f.Hostname) })},
		{path: "instance/id", value: fact(func(f Facts) value { return number(f.InstanceID) })},
		// A pod of GKE got the name of its node in June 2026 (PR 48879 of
		// open-telemetry/opentelemetry-collector-contrib), and 404 in 2023 (istio/istio#43185).
		{path: "instance/name", value: fact(func(f Facts) value { return text(f.NodeName) })},
		{path: "instance/service-accounts/{account}/aliases", value: constant(list{defaultAccount})},
		{path: "instance/service-accounts/{account}/email", value: (*request).email},
		{path: "instance/service-accounts/{account}/identity", value: (*request).idToken, token: true},
		{path: "instance/service-accounts/{account}/scopes", value: constant(list(tokens.DefaultScopes()))},
		{path: "instance/service-accounts/{account}/token", value: (*request).accessToken, token: true},
		{path: "instance/zone", value: fact(func(f Facts) value { return f.zone() })},
		attributes("project/attributes/{attribute}", func(f Facts) map[string]string { return f.ProjectAttributes }),
		{path: "project/numeric-project-id", value: fact(func(f Facts) value { return number(f.NumericProjectID) })},
		{path: "project/project-id", value: fact(func(f Facts) value { return text(f.ProjectID) })},
		{path: "universe/universe-domain", value: fact(func(f Facts) value { return text(cmp.Or(f.UniverseDomain, "googleapis.com")) })},
	}
}

func constant(v value) func(*request) (value, error) {
	return func(*request) (value, error) { return v, nil }
}

// fact reads a key that is the same for every caller and needs no identity. It waits
// for a fact that is not known yet until Options.IdentityWait after the start of the
// request.
func fact(read func(Facts) value) func(*request) (value, error) {
	return func(q *request) (value, error) {
		var timeout <-chan time.Time
		for {
			changed := q.server.options.FactsChanged()
			if v := read(q.server.options.Facts()); v != text("") && v != number("") {
				return v, nil
			}
			if timeout == nil {
				timeout = time.After(time.Until(q.conn.response.start.Add(q.server.options.IdentityWait)))
			}
			select {
			case <-changed:
			case <-timeout:
				return nil, errUnknownFact
			case <-q.ctx.Done():
				return nil, errUnknownFact
			}
		}
	}
}

// attributes are keys of the operator's. GKE has none of them.
func attributes(path string, read func(Facts) map[string]string) endpoint {
	return endpoint{path: path, attributes: read, value: func(q *request) (value, error) {
		v, ok := read(q.server.options.Facts())[q.attribute]
		if !ok {
			return nil, errNotFound
		}
		return text(v), nil
	}}
}
