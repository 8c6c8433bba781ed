package fakegoogle

import (
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
//	PUT    faults/METHOD             {"latency": "1s", "status": 503, "retryAfter": "2s", "times": 3}
//	DELETE faults
//	PUT    bindings                  {"resource": ..., "role": ..., "member": ...}
//	DELETE bindings                  the same
//	PUT    providers                 a provider, as in a state
//	PUT    serviceAccounts/EMAIL
//	DELETE serviceAccounts/EMAIL
//	POST   serviceAccounts/EMAIL/keys  {"tokenURI": ...}, answers a key file
//	POST   users                     {"email": ..., "tokenURI": ...}, answers a credentials file
//	PUT    state                     a state, as YAML or JSON
func (s *Server) adminRoutes(mux *http.ServeMux) {
	handle := func(pattern string, f func(*call) (any, error)) {
		verb, path, _ := strings.Cut(pattern, " ")
		mux.Handle(verb+" /fakegoogle/v1/"+path, s.endpoint("", f))
	}
	handle("GET token", s.describeToken)
	handle("GET counters", func(*call) (any, error) { return s.Counters(), nil })
	handle("PUT faults/{method}", s.putFault)
	handle("DELETE faults", func(*call) (any, error) { s.ClearFaults(); return struct{}{}, nil })
	handle("PUT bindings", s.changeBinding(s.Bind))
	handle("DELETE bindings", s.changeBinding(s.Unbind))
	handle("PUT providers", s.putProvider)
	handle("PUT serviceAccounts/{email}", s.putServiceAccount)
	handle("DELETE serviceAccounts/{email}", func(c *call) (any, error) {
		s.RemoveServiceAccount(c.PathValue("email"))
		return struct{}{}, nil
	})
	handle("POST serviceAccounts/{email}/keys", s.postKey)
	handle("POST users", s.postUser)
	handle("PUT state", func(c *call) (any, error) { return struct{}{}, badRequest(s.LoadState(c.body)) })
}

// badRequest answers 400 with the text of an error; nil stays nil.
func badRequest(err error) error {
	if err == nil {
		return nil
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

func (s *Server) changeBinding(change func(resource, role, member string)) func(*call) (any, error) {
	return func(c *call) (any, error) {
		var b StateBinding
		if err := decode(c.body, &b); err != nil {
			return nil, err
		}
		if field, value, remedy := b.invalidField(); field != "" {
			return nil, invalidArgument("%s %q: %s", field, value, remedy)
		}
		change(b.Resource, b.Role, b.Member)
		return struct{}{}, nil
	}
}

func (s *Server) putProvider(c *call) (any, error) {
	var p StateProvider
	if err := decode(c.body, &p); err != nil {
		return nil, err
	}
	return struct{}{}, badRequest(s.Apply(&State{Providers: []StateProvider{p}}))
}

func (s *Server) putServiceAccount(c *call) (any, error) {
	return struct{}{}, badRequest(s.Apply(&State{ServiceAccounts: []string{c.PathValue("email")}}))
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
		Email    string `json:"email"`
		TokenURI string `json:"tokenURI"`
	}
	if err := decode(c.body, &request); err != nil {
		return nil, err
	}
	return rawJSON(s.AuthorizedUser(request.Email, request.TokenURI)), nil
}
