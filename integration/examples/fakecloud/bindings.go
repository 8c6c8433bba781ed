package fakecloud

import (
	"slices"
	"strings"
)

// Bind gives a member a role on a resource, as gcloud's add-iam-policy-binding
// does. The member is as in a policy: user:EMAIL, serviceAccount:EMAIL,
// principal://…. The resource is one of
//
//	EMAIL                                  of a service account, which appears if it is new
//	projects/ID
//	buckets/NAME
//	projects/ID/locations/L/repositories/R
//
// It panics if Google refuses the member.
func (s *Server) Bind(resource, role, member string) {
	if err := s.bind(resource, role, member); err != nil {
		panic(err)
	}
}

func (s *Server) bind(resource, role, member string) error {
	if err := s.google.CheckMember(member); err != nil {
		return err
	}
	member = normal(member)
	if s.asksGoogle(resource) {
		if err := s.google.Bind(resource, role, member); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policies[resource] = s.policies[resource].with(role, member)
	return nil
}

// Unbind removes the binding.
func (s *Server) Unbind(resource, role, member string) {
	member = normal(member)
	if s.asksGoogle(resource) {
		s.google.Unbind(resource, role, member)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policies[resource] = s.policies[resource].without(role, member)
}

// asksGoogle reports whether the offline Google decides by the resource's policy.
func (s *Server) asksGoogle(resource string) bool {
	project, below, _ := strings.Cut(strings.TrimPrefix(resource, "projects/"), "/")
	return strings.Contains(resource, "@") || (resource == "projects/"+project && below == "")
}

// Allowed reports whether a principal has a permission on a resource, by its policy or its
// project's. The operator has all permissions.
func (s *Server) Allowed(resource, principal, permission string) bool {
	principal = normal(principal)
	if principal == s.operator {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.policies[resource].grants(principal, permission) {
		return true
	}
	project, isBucket := s.buckets[strings.TrimPrefix(resource, "buckets/")]
	if !isBucket {
		project, _, _ = strings.Cut(strings.TrimPrefix(resource, "projects/"), "/")
	}
	return s.policies["projects/"+project].grants(principal, permission)
}

func (p policy) grants(principal, permission string) bool {
	return slices.ContainsFunc(p.Bindings, func(b binding) bool {
		return slices.Contains(permissionsOf(b.Role), permission) && slices.Contains(b.Members, principal)
	})
}

// permissionsOf are the permissions of a predefined role, as far as they are
// asked for: "IAM roles for Cloud Storage", "Access control with IAM" of Artifact
// Registry.
func permissionsOf(role string) []string {
	const (
		get      = "storage.objects.get"
		list     = "storage.objects.list"
		create   = "storage.objects.create"
		remove   = "storage.objects.delete"
		update   = "storage.objects.update"
		download = "artifactregistry.repositories.downloadArtifacts"
		upload   = "artifactregistry.repositories.uploadArtifacts"
		erase    = "artifactregistry.repositories.deleteArtifacts"
	)
	switch role {
	case "roles/storage.objectViewer":
		return []string{get, list}
	case "roles/storage.objectCreator":
		return []string{create}
	case "roles/storage.objectUser", "roles/storage.objectAdmin":
		return []string{get, list, create, remove, update}
	case "roles/storage.admin":
		return []string{get, list, create, remove, update, "storage.buckets.get", "storage.buckets.list", "storage.buckets.create"}
	case "roles/artifactregistry.reader":
		return []string{download}
	case "roles/artifactregistry.writer":
		return []string{download, upload}
	case "roles/artifactregistry.repoAdmin", "roles/artifactregistry.admin":
		return []string{download, upload, erase}
	}
	return nil
}

// Bucket reports whether a principal has a permission on a bucket, for the stand-in for
// Cloud Storage.
func (s *Server) Bucket(bucket, principal, permission string) bool {
	return s.Allowed("buckets/"+bucket, principal, permission)
}
