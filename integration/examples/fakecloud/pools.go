package fakecloud

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"gke-metadata-emulator/fakegoogle"
)

const poolsPath = "/v1/projects/{project}/locations/global/workloadIdentityPools"

func (s *Server) poolName(c *call, pool string) (string, error) {
	_, number, err := s.project(c.PathValue("project"))
	return "projects/" + number + "/locations/global/workloadIdentityPools/" + pool, err
}

// full is a resource's name as the offline Google has it.
func full(name string) string { return "//iam.googleapis.com/" + name }

func (s *Server) createPool(c *call) (any, error) {
	name, err := s.poolName(c, c.URL.Query().Get("workloadIdentityPoolId"))
	if err != nil {
		return nil, err
	}
	var request resource
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	if found, err := s.get(name); err == nil && found["state"] == active {
		return nil, refuse(http.StatusConflict, "Requested entity already exists")
	}
	if err := s.google.AddPool(full(name)); err != nil {
		return nil, badRequest(err)
	}
	return operation(name, s.put(name, request)), nil
}

// listPools lists those that are not deleted, and the others if the caller wants them.
func (s *Server) listPools(c *call) (any, error) {
	parent, err := s.poolName(c, "")
	if err != nil {
		return nil, err
	}
	deleted, _ := strconv.ParseBool(c.URL.Query().Get("showDeleted")) // gcloud writes False
	found := []resource{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.resources)) {
		id, ok := strings.CutPrefix(name, parent)
		if ok && !strings.Contains(id, "/") && (deleted || s.resources[name]["state"] == active) {
			found = append(found, maps.Clone(s.resources[name]))
		}
	}
	return resource{"workloadIdentityPools": found}, nil
}

func (s *Server) deletePool(c *call) (any, error) {
	name, err := s.poolName(c, c.PathValue("pool"))
	if err != nil {
		return nil, err
	}
	return s.setState(name, deleted, s.google.DeletePool)
}

func (s *Server) undeletePool(c *call) (any, error) {
	pool, _ := strings.CutSuffix(c.PathValue("call"), ":undelete")
	name, err := s.poolName(c, pool)
	if err != nil {
		return nil, err
	}
	return s.setState(name, active, s.google.UndeletePool)
}

func (s *Server) deleteProvider(c *call) (any, error) {
	pool, err := s.poolName(c, c.PathValue("pool"))
	if err != nil {
		return nil, err
	}
	return s.setState(pool+"/providers/"+c.PathValue("provider"), deleted, s.google.DeleteProvider)
}

func (s *Server) undeleteProvider(c *call) (any, error) {
	pool, err := s.poolName(c, c.PathValue("pool"))
	if err != nil {
		return nil, err
	}
	provider, _ := strings.CutSuffix(c.PathValue("call"), ":undelete")
	return s.setState(pool+"/providers/"+provider, active, s.google.UndeleteProvider)
}

// setState deletes a pool or a provider, or restores it. The offline Google, which has the
// clock, decides whether that is possible.
func (s *Server) setState(name, state string, atGoogle func(string) error) (any, error) {
	if err := atGoogle(full(name)); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resources[name]["state"] = state
	return operation(name, maps.Clone(s.resources[name])), nil
}

// badRequest is an error about a field, if it is not a refusal already.
func badRequest(err error) error {
	if _, is := errors.AsType[*fakegoogle.Error](err); is {
		return err
	}
	return refuse(http.StatusBadRequest, "%s", strings.TrimPrefix(err.Error(), "fakegoogle: "))
}

// provider is a workload identity pool provider, with the fields that the offline Google
// supports.
type provider struct {
	Name             string            `json:"name"`
	DisplayName      string            `json:"displayName"`
	Description      string            `json:"description"`
	Disabled         bool              `json:"disabled"`
	AttributeMapping map[string]string `json:"attributeMapping"`
	OIDC             struct {
		IssuerURI        string   `json:"issuerUri"`
		JWKS             string   `json:"jwksJson"`
		AllowedAudiences []string `json:"allowedAudiences"`
	} `json:"oidc"`
}

func (s *Server) createProvider(c *call) (any, error) {
	pool, err := s.poolName(c, c.PathValue("pool"))
	if err != nil {
		return nil, err
	}
	if _, err := s.getActive(pool); err != nil {
		return nil, err
	}
	var p provider
	if err := c.decode(&p); err != nil {
		return nil, err
	}
	if err := s.checkIssuer(c, p.OIDC.IssuerURI); err != nil {
		return nil, err
	}
	name := pool + "/providers/" + c.URL.Query().Get("workloadIdentityPoolProviderId")
	if found, err := s.get(name); err == nil && found["state"] == active {
		return nil, refuse(http.StatusConflict, "Requested entity already exists")
	}
	if err := s.trust(name, p); err != nil {
		return nil, err
	}
	return operation(name, s.put(name, p.resource())), nil
}

// AllowIssuers sets the organisation policy constraints/iam.workloadIdentityPoolProviders:
// providers with other issuers are refused. There is no policy at first.
func (s *Server) AllowIssuers(issuers ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issuers = append([]string{}, issuers...)
}

// checkIssuer refuses an issuer that an organisation policy forbids. Texts: "Troubleshoot
// Workload Identity Federation", 2025-09-04.
func (s *Server) checkIssuer(c *call, issuer string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.issuers == nil || slices.Contains(s.issuers, issuer) {
		return nil
	}
	return &refusal{
		code: http.StatusBadRequest, status: "FAILED_PRECONDITION", message: "Precondition check failed.",
		details: []any{resource{
			"@type": "type.googleapis.com/google.rpc.PreconditionFailure",
			"violations": []any{resource{
				"type":        "constraints/iam.workloadIdentityPoolProviders",
				"subject":     "orgpolicy:projects/" + c.PathValue("project") + "/locations/global/workloadIdentityPools/" + c.PathValue("pool"),
				"description": "Org Policy violated for value: '" + issuer + "'.",
			}},
		}},
	}
}

// updateProvider changes the fields that the mask names: keys, issuer, audiences.
func (s *Server) updateProvider(c *call) (any, error) {
	pool, err := s.poolName(c, c.PathValue("pool"))
	if err != nil {
		return nil, err
	}
	name := pool + "/providers/" + c.PathValue("provider")
	found, err := s.getActive(name)
	if err != nil {
		return nil, err
	}
	var change provider
	if err := c.decode(&change); err != nil {
		return nil, err
	}
	wanted := providerOf(found)
	for field := range strings.SplitSeq(c.URL.Query().Get("updateMask"), ",") {
		switch field {
		case "oidc.jwksJson", "oidc.jwks_json":
			wanted.OIDC.JWKS = change.OIDC.JWKS
		case "oidc.issuerUri", "oidc.issuer_uri":
			wanted.OIDC.IssuerURI = change.OIDC.IssuerURI
		case "oidc.allowedAudiences", "oidc.allowed_audiences":
			wanted.OIDC.AllowedAudiences = change.OIDC.AllowedAudiences
		default:
			return nil, refuse(http.StatusBadRequest, "Invalid update mask: %q", field)
		}
	}
	if err := s.trust(name, wanted); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.resources[name], wanted.resource())
	return operation(name, maps.Clone(s.resources[name])), nil
}

// trust lets the Security Token Service believe the provider's tokens.
func (s *Server) trust(name string, p provider) error {
	if len(p.AttributeMapping) != 1 || p.AttributeMapping["google.subject"] != "assertion.sub" {
		return refuse(http.StatusBadRequest, "attribute mapping %v: this stand-in has google.subject=assertion.sub only", p.AttributeMapping)
	}
	if p.Disabled {
		return refuse(http.StatusBadRequest, "this stand-in has no disabled providers")
	}
	err := s.google.AddProvider(fakegoogle.Provider{
		Name: full(name), Issuer: p.OIDC.IssuerURI, JWKS: []byte(p.OIDC.JWKS), AllowedAudiences: p.OIDC.AllowedAudiences,
	})
	if err != nil {
		return badRequest(err)
	}
	return nil
}

func (p provider) resource() resource {
	return resource{
		"displayName": p.DisplayName, "description": p.Description, "attributeMapping": p.AttributeMapping,
		"oidc": resource{"issuerUri": p.OIDC.IssuerURI, "jwksJson": p.OIDC.JWKS, "allowedAudiences": p.OIDC.AllowedAudiences},
	}
}

func providerOf(r resource) provider {
	var p provider
	p.DisplayName, _ = r["displayName"].(string)
	p.Description, _ = r["description"].(string)
	p.AttributeMapping, _ = r["attributeMapping"].(map[string]string)
	oidc, _ := r["oidc"].(resource)
	p.OIDC.IssuerURI, _ = oidc["issuerUri"].(string)
	p.OIDC.JWKS, _ = oidc["jwksJson"].(string)
	p.OIDC.AllowedAudiences, _ = oidc["allowedAudiences"].([]string)
	return p
}
