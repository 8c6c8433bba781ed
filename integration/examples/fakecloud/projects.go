package fakecloud

import (
	"net/http"
	"strings"
)

// project is the id and the number of a project, by either.
func (s *Server) project(name string) (id, number string, err error) {
	for id, number := range s.projects {
		if name == id || name == number {
			return id, number, nil
		}
	}
	return "", "", refuse(http.StatusForbidden, "The caller does not have permission, or there is no project %s", name)
}

func (s *Server) getProject(c *call) (any, error) {
	id, number, err := s.project(c.PathValue("project"))
	if err != nil {
		return nil, err
	}
	return resource{"projectId": id, "projectNumber": number, "name": id, "lifecycleState": "ACTIVE"}, nil
}

// projectCall answers ID:VERB.
func (s *Server) projectCall(c *call) (any, error) {
	name, verb, _ := strings.Cut(c.PathValue("call"), ":")
	id, _, err := s.project(name)
	if err != nil {
		return nil, err
	}
	if verb == "testIamPermissions" {
		var request struct {
			Permissions []string `json:"permissions"`
		}
		err := c.decode(&request)
		return request, err // the operator has all
	}
	return s.policyCall(c, "projects/"+id, verb)
}
