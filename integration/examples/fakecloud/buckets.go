package fakecloud

import (
	"net/http"
)

// CreateBucket makes a bucket of a project, as gcloud storage buckets create
// does; nothing changes if it is there.
func (s *Server) CreateBucket(project, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.buckets[name]; there {
		return
	}
	s.buckets[name] = project
	if s.storage != nil {
		s.storage.CreateBucket(name)
	}
}

func (s *Server) createBucket(c *call) (any, error) {
	id, number, err := s.project(c.URL.Query().Get("project"))
	if err != nil {
		return nil, err
	}
	var request resource
	if err := c.decode(&request); err != nil {
		return nil, err
	}
	name, _ := request["name"].(string)
	if name == "" {
		return nil, refuse(http.StatusBadRequest, "Required parameter: name")
	}
	if s.hasBucket(name) {
		return nil, refuse(http.StatusConflict, "Your previous request to create the named bucket succeeded and you already own it.")
	}
	s.CreateBucket(id, name)
	request["kind"], request["id"], request["projectNumber"] = "storage#bucket", name, number
	return request, nil
}

func (s *Server) hasBucket(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := s.buckets[name]
	return there
}

func (s *Server) bucketOf(c *call) (string, error) {
	name := c.PathValue("bucket")
	if !s.hasBucket(name) {
		return "", refuse(http.StatusNotFound, "The specified bucket does not exist: %s", name)
	}
	return name, nil
}

func (s *Server) getBucketPolicy(c *call) (any, error) {
	bucket, err := s.bucketOf(c)
	if err != nil {
		return nil, err
	}
	return storagePolicy(bucket, s.policy("buckets/"+bucket).wire()), nil
}

// setBucketPolicy takes the policy as it is: Cloud Storage has no frame for it.
func (s *Server) setBucketPolicy(c *call) (any, error) {
	bucket, err := s.bucketOf(c)
	if err != nil {
		return nil, err
	}
	var wanted policy
	if err := c.decode(&wanted); err != nil {
		return nil, err
	}
	present := s.policy("buckets/" + bucket).wire()
	set, err := s.set("buckets/"+bucket, present, wanted)
	return storagePolicy(bucket, set), err
}

func storagePolicy(bucket string, p policy) policy {
	p.Kind, p.Resource = "storage#policy", "projects/_/buckets/"+bucket
	return p
}
