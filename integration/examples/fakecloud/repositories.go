package fakecloud

import (
	"net/http"
	"strings"
)

const repositoriesPath = "/v1/projects/{project}/locations/{location}/repositories"

func (s *Server) createRepository(c *call) (any, error) {
	id, _, err := s.project(c.PathValue("project"))
	if err != nil {
		return nil, err
	}
	var request resource
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	if request["format"] != "DOCKER" {
		return nil, refuse(http.StatusBadRequest, "format %v: this stand-in has DOCKER only", request["format"])
	}
	delete(request, "name")
	parent := "projects/" + id + "/locations/" + c.PathValue("location")
	name := parent + "/repositories/" + c.URL.Query().Get("repositoryId")
	made, err := s.add(name, request, "the repository")
	return operation(parent, made), err
}

// repositoryCall answers for a repository, and REPOSITORY:VERB.
func (s *Server) repositoryCall(c *call) (any, error) {
	id, _, err := s.project(c.PathValue("project"))
	if err != nil {
		return nil, err
	}
	repository, verb, called := strings.Cut(c.PathValue("call"), ":")
	name := "projects/" + id + "/locations/" + c.PathValue("location") + "/repositories/" + repository
	found, err := s.get(name)
	if err != nil || (!called && c.Method == http.MethodGet) {
		return found, err
	}
	return s.policyCall(c, name, verb)
}

// HasRepository reports whether the operator has created a repository.
func (s *Server) HasRepository(name string) bool {
	_, err := s.get(name)
	return err == nil
}
