package fakecloud

import (
	"maps"
	"net/http"
	"strings"
)

// The states of a resource. Only pools and providers can be deleted and restored.
const (
	active  = "ACTIVE"
	deleted = "DELETED"
)

// put keeps a resource, instead of any of the same name.
func (s *Server) put(name string, with resource) resource {
	s.mu.Lock()
	defer s.mu.Unlock()
	added := resource{"name": name, "state": active}
	maps.Copy(added, with)
	s.resources[name] = added
	return maps.Clone(added)
}

// add keeps a new resource.
func (s *Server) add(name string, with resource, kind string) (resource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.resources[name]; there {
		return nil, refuse(http.StatusConflict, "%s already exists: %s", kind, name)
	}
	added := resource{"name": name, "state": active}
	maps.Copy(added, with)
	s.resources[name] = added
	return maps.Clone(added), nil
}

// getActive is get without resources that are deleted.
func (s *Server) getActive(name string) (resource, error) {
	found, err := s.get(name)
	if err == nil && found["state"] == deleted {
		return nil, refuse(http.StatusNotFound, "Requested entity was not found: %s", name)
	}
	return found, err
}

func (s *Server) get(name string) (resource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, there := s.resources[name]
	if !there {
		return nil, refuse(http.StatusNotFound, "Requested entity was not found: %s", name)
	}
	return maps.Clone(found), nil
}

// getResource answers for a resource whose name equals its path, except for the number of
// its project.
func (s *Server) getResource(c *call) (any, error) {
	_, number, err := s.project(c.PathValue("project"))
	if err != nil {
		return nil, err
	}
	_, below, _ := strings.Cut(strings.TrimPrefix(c.URL.Path, "/v1/projects/"), "/")
	return s.get("projects/" + number + "/" + below)
}
