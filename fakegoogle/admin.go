package fakegoogle

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The endpoints below /fakegoogle/v1/ are not Google's: they offer the Go API to
// clients that reach the server by HTTP only.
//
//	GET    token                     the grant of the bearer token
//	GET    counters                  calls per method
//	GET    quotaProjects             calls per method and quota project
//	PUT    apis                      {"project": ..., "service": ..., "state": "enabled", "disabled" or "prohibited"}
//	PUT    faults/METHOD             {"latency": "1s", "status": 503, "retryAfter": "2s", "times": 3}
//	DELETE faults
//	PUT    bindings                  {"resource": ..., "role": ..., "member": ...}
//	DELETE bindings                  the same
//	PUT    providers                 a provider, as in a state
//	DELETE providers                 {"name": ...}
//	POST   providers/undelete        {"name": ...}
//	PUT    memberships               a membership, as in a state; DELETE providers deletes it
//	PUT    pools                     {"name": ...}
//	DELETE pools                     {"name": ...}
//	POST   pools/undelete            {"name": ...}
//	PUT    gkePools                  a pool of GKE, as in a state
//	PUT    serviceAccounts/EMAIL
//	DELETE serviceAccounts/EMAIL
//	POST   serviceAccounts/EMAIL/disable
//	POST   serviceAccounts/EMAIL/enable
//	POST   users/EMAIL/endSessions   the user has to log in again
//	POST   serviceAccounts/EMAIL/keys  {"tokenURI": ...}, answers a key file
//	POST   users                     {"email": ..., "tokenURI": ..., "quotaProject": ...}, answers a credentials file
//	PUT    state                     a state, as YAML or JSON
func (s *Server) adminRoutes(mux *http.ServeMux) {
	handle := func(pattern string, f func(*call) (any, error)) {
		verb, path, _ := strings.Cut(pattern, " ")
		mux.Handle(verb+" /fakegoogle/v1/"+path, s.endpoint("", f))
	}
	handle("GET token", s.describeToken)
	handle("GET counters", func(*call) (any, error) { return s.Counters(), nil })
	handle("GET quotaProjects", func(*call) (any, error) { return s.QuotaProjects(), nil })
	handle("PUT apis", s.putAPI)
	handle("PUT faults/{method}", s.putFault)
	handle("DELETE faults", func(*call) (any, error) { s.ClearFaults(); return struct{}{}, nil })
	handle("PUT bindings", s.changeBinding(s.Bind))
	handle("DELETE bindings", s.changeBinding(func(resource, role, member string) error {
		s.Unbind(resource, role, member)
		return nil
	}))
	handle("PUT providers", put(s, func(p StateProvider) State { return State{Providers: []StateProvider{p}} }))
	handle("DELETE providers", named(s.DeleteProvider))
	handle("POST providers/undelete", named(s.UndeleteProvider))
	handle("PUT memberships", put(s, func(m StateMembership) State { return State{Memberships: []StateMembership{m}} }))
	handle("PUT pools", named(s.AddPool))
	handle("DELETE pools", named(s.DeletePool))
	handle("POST pools/undelete", named(s.UndeletePool))
	handle("PUT gkePools", put(s, func(p StateGKEPool) State { return State{GKEPools: []StateGKEPool{p}} }))
	handle("PUT serviceAccounts/{email}", s.putServiceAccount)
	handle("DELETE serviceAccounts/{email}", onEmail(s.RemoveServiceAccount))
	handle("POST serviceAccounts/{email}/disable", onEmail(s.DisableServiceAccount))
	handle("POST serviceAccounts/{email}/enable", onEmail(s.EnableServiceAccount))
	handle("POST users/{email}/endSessions", onEmail(s.EndSessions))
	handle("POST serviceAccounts/{email}/keys", s.postKey)
	handle("POST users", s.postUser)
	handle("PUT state", func(c *call) (any, error) { return struct{}{}, badRequest(s.LoadState(c.body)) })
}

// badRequest answers 400 with the text of an error; nil, and a refusal of Google's, stay
// the same.
func badRequest(err error) error {
	if _, refusal := errors.AsType[*Error](err); err == nil || refusal {
		return err
	}
	return invalidArgument("%s", err)
}

func (s *Server) describeToken(c *call) (any, error) {
	token, _ := bearerToken(c.Request)
	granted, ok := s.Inspect(token)
	if !ok {
		return nil, unauthenticated("ACCESS_TOKEN_TYPE_UNSUPPORTED", apiName{"fakegoogle", "fakegoogle.v1.Token"})
	}
	return struct {
		Principal       string   `json:"principal"`
		DelegationChain []string `json:"through"`
		Pod             string   `json:"pod,omitempty"`
		PodUID          string   `json:"pod_uid,omitempty"`
		KSA             string   `json:"ksa,omitempty"`
		Scopes          []string `json:"scopes"`
		ExpiresAt       string   `json:"expires_at"`
		QuotaProject    string   `json:"quota_project,omitempty"`
	}{
		granted.Principal, slices.Concat([]string{}, granted.DelegationChain), granted.Pod, granted.PodUID, granted.KSA,
		granted.Scopes, rfc3339(granted.Expiry), granted.QuotaProject,
	}, nil
}

func (s *Server) putFault(c *call) (any, error) {
	method := c.PathValue("method")
	if !slices.Contains(Methods(), method) {
		return nil, invalidArgument("unknown method %q: the methods are %s", method, strings.Join(Methods(), ", "))
	}
	var request struct {
		Latency    string `json:"latency"`
		Status     int    `json:"status"`
		RetryAfter string `json:"retryAfter"`
		Times      int    `json:"times"`
	}
	if err := decode(c.body, &request); err != nil {
		return nil, err
	}
	fault := Fault{Status: request.Status, Times: request.Times}
	for _, d := range []struct {
		text  string
		field *time.Duration
	}{{request.Latency, &fault.Latency}, {request.RetryAfter, &fault.RetryAfter}} {
		if d.text == "" {
			continue
		}
		var err error
		if *d.field, err = time.ParseDuration(d.text); err != nil {
			return nil, badRequest(err)
		}
	}
	if fault.Status != 0 && (fault.Status < 400 || fault.Status > 599) {
		return nil, invalidArgument("status %d: write an HTTP status from 400 to 599, or 0 for a normal answer after the latency", fault.Status)
	}
	s.SetFault(method, fault)
	return struct{}{}, nil
}

func (s *Server) putAPI(c *call) (any, error) {
	var api struct {
		Project string `json:"project"`
		Service string `json:"service"`
		State   string `json:"state"`
	}
	if err := decode(c.body, &api); err != nil {
		return nil, err
	}
	change, ok := map[string]func(project, service string){
		"enabled": s.EnableAPI, "disabled": s.DisableAPI, "prohibited": s.ProhibitAPI,
	}[api.State]
	if !ok || api.Project == "" || !slices.Contains(Services(), api.Service) {
		return nil, invalidArgument("write a project, one of the services %s, and the state enabled, disabled or prohibited", strings.Join(Services(), ", "))
	}
	change(api.Project, api.Service)
	return struct{}{}, nil
}

func (s *Server) changeBinding(change func(resource, role, member string) error) func(*call) (any, error) {
	return func(c *call) (any, error) {
		var b StateBinding
		if err := decode(c.body, &b); err != nil {
			return nil, err
		}
		if field, value, remedy := b.invalidField(); field != "" {
			return nil, invalidArgument("%s %q: %s", field, value, remedy)
		}
		return struct{}{}, change(b.Resource, b.Role, b.Member)
	}
}

// put applies a state of one element.
func put[T any](s *Server, state func(T) State) func(*call) (any, error) {
	return func(c *call) (any, error) {
		var element T
		if err := decode(c.body, &element); err != nil {
			return nil, err
		}
		one := state(element)
		return struct{}{}, badRequest(s.Apply(&one))
	}
}

// named changes the resource that the body names.
func named(change func(name string) error) func(*call) (any, error) {
	return func(c *call) (any, error) {
		var resource struct {
			Name string `json:"name"`
		}
		if err := decode(c.body, &resource); err != nil {
			return nil, err
		}
		return struct{}{}, badRequest(change(resource.Name))
	}
}

func (s *Server) putServiceAccount(c *call) (any, error) {
	return struct{}{}, badRequest(s.Apply(&State{ServiceAccounts: []string{c.PathValue("email")}}))
}

// onEmail changes the account that the path names.
func onEmail(change func(email string)) func(*call) (any, error) {
	return func(c *call) (any, error) {
		email := c.PathValue("email")
		if !looksLikeEmail(email) {
			return nil, invalidArgument("%q is not an e-mail address", email)
		}
		change(email)
		return struct{}{}, nil
	}
}

// rawJSON is an answer that is encoded already.
type rawJSON []byte

func (r rawJSON) MarshalJSON() ([]byte, error) { return r, nil }

func (s *Server) postKey(c *call) (any, error) {
	var request struct {
		TokenURI string `json:"tokenURI"`
	}
	if err := decode(c.body, &request); err != nil {
		return nil, err
	}
	key, err := s.ServiceAccountKey(c.PathValue("email"), request.TokenURI)
	return rawJSON(key), err
}

func (s *Server) postUser(c *call) (any, error) {
	var request struct {
		Email        string `json:"email"`
		TokenURI     string `json:"tokenURI"`
		QuotaProject string `json:"quotaProject"`
	}
	if err := decode(c.body, &request); err != nil {
		return nil, err
	}
	return rawJSON(s.AuthorizedUserWithQuota(request.Email, request.TokenURI, request.QuotaProject)), nil
}
