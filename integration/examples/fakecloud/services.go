package fakecloud

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"gke-metadata-emulator/fakegoogle"
)

// projectService is an API in a project, by its ID.
type projectService struct{ project, service string }

// perProject are the services that a project has to enable before an operator's gcloud can
// call them, with their names in Google's texts. Cloud Storage is enabled in each new project
// ("Enabled services", section "Services enabled by default", 2025-09-04), and Resource
// Manager's and Service Usage's calls by a gcloud user are billed to gcloud's own project.
var perProject = map[string]string{
	"iam.googleapis.com":              "Identity and Access Management (IAM) API",
	"artifactregistry.googleapis.com": "Artifact Registry API",
}

// known are all services that can be enabled.
var known = []string{
	"artifactregistry.googleapis.com", "cloudresourcemanager.googleapis.com", "gkehub.googleapis.com", "iam.googleapis.com",
	"iamcredentials.googleapis.com", "serviceusage.googleapis.com", "storage.googleapis.com", "sts.googleapis.com",
}

// Enable enables APIs in a project, as gcloud services enable does.
func (s *Server) Enable(project string, services ...string) {
	id, number, err := s.project(project)
	if err != nil {
		panic(err)
	}
	for _, service := range services {
		s.setEnabled(id, number, service, true)
	}
}

func (s *Server) setEnabled(id, number, service string, enabled bool) {
	s.mu.Lock()
	s.enabled[projectService{id, service}] = enabled
	s.mu.Unlock()
	if !slices.Contains(fakegoogle.Services(), service) {
		return
	}
	change := s.google.DisableAPI
	if enabled {
		change = s.google.EnableAPI
	}
	for _, project := range []string{id, number} { // some calls are billed to the one, some to the other
		change(project, service)
	}
}

func (s *Server) batchEnable(c *call) (any, error) {
	id, number, err := s.project(c.PathValue("project"))
	if err != nil {
		return nil, err
	}
	var request struct {
		ServiceIDs []string `json:"serviceIds"`
	}
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	for _, service := range request.ServiceIDs {
		if err := checkService(service); err != nil {
			return nil, err
		}
	}
	s.Enable(id, request.ServiceIDs...)
	return s.begin(number), nil
}

// serviceCall answers SERVICE:enable and SERVICE:disable.
func (s *Server) serviceCall(c *call) (any, error) {
	id, number, err := s.project(c.PathValue("project"))
	if err != nil {
		return nil, err
	}
	service, verb, _ := strings.Cut(c.PathValue("call"), ":")
	if err := checkService(service); err != nil {
		return nil, err
	}
	if verb != "enable" && verb != "disable" {
		return nil, refuse(http.StatusNotFound, "Method not found.")
	}
	s.setEnabled(id, number, service, verb == "enable")
	return s.begin(number), nil
}

func checkService(service string) error {
	if !slices.Contains(known, service) {
		return refuse(http.StatusForbidden, "Service '%s' not found or permission denied.", service) // forseti-security#554, 2017
	}
	return nil
}

// begin is an operation that has not ended, as the real one's first answer is.
func (s *Server) begin(number string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := fmt.Sprintf("operations/acat.p2-%s-%d", number, len(s.waited))
	s.waited[name] = true
	return resource{"name": name}
}

func (s *Server) getOperation(c *call) (any, error) {
	name := "operations/" + c.PathValue("operation")
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.waited[name] {
		return nil, refuse(http.StatusNotFound, "Requested entity was not found: %s", name)
	}
	return resource{"name": name, "done": true, "response": resource{"@type": "type.googleapis.com/google.protobuf.Empty"}}, nil
}

// checkEnabled refuses an operator's call to an API that the project in its path has not
// enabled, as the offline Google does.
func (s *Server) checkEnabled(r *http.Request) error {
	service, _, _ := strings.Cut(r.Host, ":")
	title, needed := perProject[service]
	id, number, err := s.project(r.PathValue("project"))
	if !needed || err != nil {
		return nil // the handler refuses unknown projects
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enabled[projectService{id, service}] {
		return nil
	}
	return fakegoogle.ServiceDisabled(number, service, title)
}

// billGcloud names the project in the path as the quota project of gcloud's own requests,
// which need none, in contrast to those with the credential of gcloud auth
// application-default login ("Set the quota project", 2026-11).
func (s *Server) billGcloud(r *http.Request) {
	id, _, err := s.project(r.PathValue("project"))
	if err == nil && strings.Contains(r.UserAgent(), "gcloud/") && r.Header.Get(quotaProject) == "" {
		r.Header.Set(quotaProject, id)
	}
}

const quotaProject = "X-Goog-User-Project"
