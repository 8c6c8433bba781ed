package registry

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// The IAM permissions that the stand-in checks.
const (
	download = "artifactregistry.repositories.downloadArtifacts"
	upload   = "artifactregistry.repositories.uploadArtifacts"
	remove   = "artifactregistry.repositories.deleteArtifacts"
)

// Policy is IAM's knowledge about repositories. Their names are the API's:
// projects/P/locations/L/repositories/R. A principal is a member of a policy, like
// serviceAccount:EMAIL.
type Policy interface {
	HasRepository(name string) bool
	Allowed(resource, principal, permission string) bool
}

// Policies are a [Policy] that a test writes down. The zero value has no
// repository.
type Policies struct {
	mu           sync.Mutex
	repositories []string
	bindings     []binding
}

type binding struct{ resource, role, member string }

// permissionsOf are the permissions of a role as far as they matter here: "Access
// control with IAM" of Artifact Registry.
func permissionsOf(role string) []string {
	switch role {
	case "roles/artifactregistry.reader":
		return []string{download}
	case "roles/artifactregistry.writer":
		return []string{download, upload}
	case "roles/artifactregistry.repoAdmin":
		return []string{download, upload, remove}
	}
	return nil
}

// Create makes a repository.
func (p *Policies) Create(repository string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.repositories = append(p.repositories, repository)
}

// Bind gives a member a role on a repository, or on all of projects/P.
func (p *Policies) Bind(resource, role, member string) error {
	if permissionsOf(role) == nil {
		return fmt.Errorf("registry: %s is no role of a repository; try roles/artifactregistry.writer", role)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bindings = append(p.bindings, binding{resource, role, member})
	return nil
}

// Unbind removes the binding.
func (p *Policies) Unbind(resource, role, member string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bindings = slices.DeleteFunc(p.bindings, func(b binding) bool { return b == binding{resource, role, member} })
}

// HasRepository implements [Policy].
func (p *Policies) HasRepository(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.repositories, name)
}

// Allowed implements [Policy].
func (p *Policies) Allowed(resource, principal, permission string) bool {
	project, _, _ := strings.Cut(resource, "/locations/")
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.bindings, func(b binding) bool {
		return (b.resource == resource || b.resource == project) && b.member == principal && slices.Contains(permissionsOf(b.role), permission)
	})
}
