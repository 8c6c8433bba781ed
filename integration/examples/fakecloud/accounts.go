package fakecloud

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
)

var accountID = regexp.MustCompile(`^[a-z][-a-z0-9]{4,28}[a-z0-9]$`)

func (s *Server) createAccount(c *call) (any, error) {
	id, _, err := s.project(c.PathValue("project"))
	if err != nil {
		return nil, err
	}
	var request struct {
		AccountID      string   `json:"accountId"`
		ServiceAccount resource `json:"serviceAccount"`
	}
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	if !accountID.MatchString(request.AccountID) {
		return nil, refuse(http.StatusBadRequest, "The account ID %q does not have a length between 6 and 30, or is not lower case letters, digits and hyphens.", request.AccountID)
	}
	email := request.AccountID + "@" + id + ".iam.gserviceaccount.com"
	described := resource{"email": email, "projectId": id}
	maps.Copy(described, request.ServiceAccount)
	account, err := s.add("projects/"+id+"/serviceAccounts/"+email, described, "Service account "+request.AccountID)
	if err == nil {
		s.google.AddServiceAccount(email)
	}
	return account, err
}

// accountName is the name of the account that the path addresses. Google finds an account
// only in its own project, or in the project "-" (reference of iam/v1,
// projects.serviceAccounts.get).
func accountName(c *call, email string) (string, error) {
	_, domain, _ := strings.Cut(email, "@")
	project, _, _ := strings.Cut(domain, ".")
	if inURL := c.PathValue("project"); inURL != "-" && inURL != project {
		return "", refuse(http.StatusNotFound, "Unknown service account")
	}
	return "projects/" + project + "/serviceAccounts/" + email, nil
}

func (s *Server) getAccount(c *call) (any, error) {
	name, err := accountName(c, c.PathValue("account"))
	if err != nil {
		return nil, err
	}
	return s.get(name)
}

func (s *Server) deleteAccount(c *call) (any, error) {
	email := c.PathValue("account")
	name, err := accountName(c, email)
	if err != nil {
		return nil, err
	}
	if _, err := s.get(name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	delete(s.resources, name)
	s.mu.Unlock()
	s.google.RemoveServiceAccount(email)
	return resource{}, nil
}

func (s *Server) enableAccount(c *call) (any, error) {
	return s.switchAccount(c, s.google.EnableServiceAccount)
}

func (s *Server) disableAccount(c *call) (any, error) {
	return s.switchAccount(c, s.google.DisableServiceAccount)
}

func (s *Server) switchAccount(c *call, change func(email string)) (any, error) {
	email, _, _ := strings.Cut(c.PathValue("call"), ":")
	if _, err := accountName(c, email); err != nil {
		return nil, err
	}
	if !s.google.HasServiceAccount(email) {
		return nil, refuse(http.StatusNotFound, "Unknown service account")
	}
	change(email)
	return resource{}, nil
}

// setAccountPolicy changes the policy that the offline Google has.
func (s *Server) setAccountPolicy(c *call) (any, error) {
	email := strings.TrimSuffix(c.PathValue("call"), ":setIamPolicy")
	if _, err := accountName(c, email); err != nil {
		return nil, err
	}
	var request setRequest
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	present, err := s.askGoogle(c, "/v1/projects/"+c.PathValue("project")+"/serviceAccounts/"+email+":getIamPolicy")
	if err != nil {
		return nil, err
	}
	return s.set(email, present, request.Policy)
}

// askGoogle asks for a policy with the caller's own token.
func (s *Server) askGoogle(c *call, path string) (policy, error) {
	var present policy
	request := c.Request.Clone(c.Context())
	if request.Header.Get(quotaProject) == "" {
		request.Header.Set(quotaProject, c.PathValue("project"))
	}
	request.URL.Path, request.URL.RawPath, request.URL.RawQuery = path, "", ""
	request.Body = io.NopCloser(bytes.NewReader(nil))
	answer := httptest.NewRecorder()
	s.google.ServeHTTP(answer, request)
	if answer.Code != http.StatusOK {
		return present, refuse(answer.Code, "%s: %s", path, answer.Body)
	}
	return present, json.Unmarshal(answer.Body.Bytes(), &present)
}
