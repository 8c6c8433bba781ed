package fakecloud

import (
	"maps"
	"net/http"
	"strings"

	"gke-metadata-emulator/fakegoogle"
)

const poolsPath = "/v1/projects/{project}/locations/global/workloadIdentityPools"

func (s *Server) poolName(c *call, pool string) (string, error) {
	_, number, err := s.project(c.PathValue("project"))
	return "projects/" + number + "/locations/global/workloadIdentityPools/" + pool, err
}

func (s *Server) createPool(c *call) (any, error) {
	name, err := s.poolName(c, c.URL.Query().Get("workloadIdentityPoolId"))
	if err != nil {
		return nil, err
	}
	var request resource
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	if err := s.google.AddPool("//iam.googleapis.com/" + name); err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	pool, err := s.add(name, request, "Workload identity pool")
	return operation(name, pool), err
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
	if _, err := s.get(pool); err != nil {
		return nil, err
	}
	var p provider
	if err := c.decode(&p); err != nil {
		return nil, err
	}
	name := pool + "/providers/" + c.URL.Query().Get("workloadIdentityPoolProviderId")
	if _, err := s.get(name); err == nil {
		return nil, refuse(http.StatusConflict, "Workload identity pool provider already exists: %s", name)
	}
	if err := s.trust(name, p); err != nil {
		return nil, err
	}
	made, err := s.add(name, p.resource(), "Workload identity pool provider")
	return operation(name, made), err
}

// updateProvider changes the fields that the mask names: keys, issuer, audiences.
func (s *Server) updateProvider(c *call) (any, error) {
	pool, err := s.poolName(c, c.PathValue("pool"))
	if err != nil {
		return nil, err
	}
	name := pool + "/providers/" + c.PathValue("provider")
	found, err := s.get(name)
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
	if p.OIDC.JWKS == "" {
		return refuse(http.StatusBadRequest, "no keys: nothing here reaches the issuer %s; give --jwk-json-path", p.OIDC.IssuerURI)
	}
	err := s.google.AddProvider(fakegoogle.Provider{
		Name: "//iam.googleapis.com/" + name, Issuer: p.OIDC.IssuerURI, JWKS: []byte(p.OIDC.JWKS), AllowedAudiences: p.OIDC.AllowedAudiences,
	})
	if err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
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
