package server

import (
	"cmp"
	"time"

	"gke-metadata-emulator/tokens"
)

// endpoint is one key of the metadata tree, or a directory of it.
type endpoint struct {
	// path is the key's place below /computeMetadata/v1/. {account} stands for each
	// name of the caller's service account: default, and its e-mail address;
	// {attribute} for each of the operator's attributes.
	path string
	// value answers for the key.
	value func(*request) (value, error)
	// listedOnly keys are tokens: they stand in listings and not in recursive
	// answers, come in one form only, and nobody can wait for them to change.
	listedOnly bool
	directory  bool
	attributes func(Facts) map[string]string // of an {attribute}
}

// endpoints is the table of all keys. What GKE does not serve is not here, so that
// software that tells GKE from Compute Engine by a missing key is right.
func (s *Server) endpoints() []endpoint {
	return []endpoint{
		{path: "instance/attributes/cluster-location", value: fact(func(f Facts) value { return text(f.ClusterLocation) })},
		{path: "instance/attributes/cluster-name", value: fact(func(f Facts) value { return text(f.ClusterName) })},
		{path: "instance/attributes/cluster-uid", value: fact(func(f Facts) value { return text(f.ClusterUID) })},
		attribute("instance/attributes/{attribute}", func(f Facts) map[string]string { return f.InstanceAttributes }),
		{path: "instance/hostname", value: fact(func(f Facts) value { return text(f.Hostname) })},
		{path: "instance/id", value: fact(func(f Facts) value { return number(f.InstanceID) })},
		{path: "instance/service-accounts/{account}/aliases", value: func(*request) (value, error) { return lines{defaultAccount}, nil }},
		{path: "instance/service-accounts/{account}/email", value: (*request).email},
		{path: "instance/service-accounts/{account}/identity", value: (*request).idToken, listedOnly: true},
		{path: "instance/service-accounts/{account}/scopes", value: func(*request) (value, error) { return lines(tokens.DefaultScopes()), nil }},
		{path: "instance/service-accounts/{account}/token", value: (*request).accessToken, listedOnly: true},
		{path: "instance/zone", value: fact(func(f Facts) value { return f.zone() })},
		attribute("project/attributes/{attribute}", func(f Facts) map[string]string { return f.ProjectAttributes }),
		{path: "project/numeric-project-id", value: fact(func(f Facts) value { return number(f.NumericProjectID) })},
		{path: "project/project-id", value: fact(func(f Facts) value { return text(f.ProjectID) })},
		{path: "universe/universe-domain", value: fact(func(f Facts) value { return text(cmp.Or(f.UniverseDomain, "googleapis.com")) })},
	}
}

// fact is a key that is the same for every caller: it needs no identity. What is
// not known yet is waited for, bounded.
func fact(of func(Facts) value) func(*request) (value, error) {
	return func(q *request) (value, error) {
		var timeout <-chan time.Time
		for {
			changed := q.server.options.FactsChanged()
			if v := of(q.server.options.Facts()); v != text("") && v != number("") {
				return v, nil
			}
			if timeout == nil {
				timeout = time.After(time.Until(q.patience))
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

// attribute is a key of the operator's. GKE has none of them.
func attribute(path string, of func(Facts) map[string]string) endpoint {
	return endpoint{path: path, attributes: of, value: func(q *request) (value, error) {
		v, ok := of(q.server.options.Facts())[q.attribute]
		if !ok {
			return nil, errNotFound
		}
		return text(v), nil
	}}
}
