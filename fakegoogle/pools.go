package fakegoogle

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// restorable is the time for which a deleted pool or provider can be undeleted. Its
// name cannot be used again before: "You cannot reuse the name of a deleted pool until
// 30 days after deletion" (iam/v1 discovery document of 2026-10-23).
const restorable = 30 * 24 * time.Hour

// deletion is the state of a pool or a provider; the zero value means active.
type deletion struct{ at time.Time }

func (d deletion) active() bool { return d.at.IsZero() }

// final reports whether the deletion can no longer be undone.
func (d deletion) final(now time.Time) bool { return !d.active() && now.Sub(d.at) >= restorable }

const poolForm = `//iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL`

// poolName matches the full resource name of a pool; its submatches are the project's
// number and the pool's ID.
var poolName = regexp.MustCompile(`^//iam\.googleapis\.com/projects/([0-9]+)/locations/global/workloadIdentityPools/([^/]+)$`)

// shortID is the form of the IDs of pools and providers: "4-32 characters, and may
// contain the characters [a-z0-9-]. The prefix gcp- is reserved for use by Google"
// (iam/v1 discovery document of 2026-10-23).
var shortID = regexp.MustCompile(`^[a-z0-9-]{4,32}$`)

func checkShortID(what, id string) error {
	if !shortID.MatchString(id) || strings.HasPrefix(id, "gcp-") {
		return fmt.Errorf("fakegoogle: %s ID %q: use 4 to 32 of the characters a-z, 0-9 and -, without the prefix gcp-", what, id)
	}
	return nil
}

// parsePoolName checks the full resource name of a pool that users can create.
func parsePoolName(name string) error {
	m := poolName.FindStringSubmatch(name)
	if m == nil {
		return fmt.Errorf("fakegoogle: pool name %q is not of the form %s; NUMBER is the project's number, not its ID", name, poolForm)
	}
	return checkShortID("pool", m[2])
}

// gkePoolName returns the full resource name of the pool with an ID such as
// PROJECT.svc.id.goog.
func gkePoolName(id, projectNumber string) string {
	return "//iam.googleapis.com/projects/" + projectNumber + "/locations/global/workloadIdentityPools/" + id
}

// gkePoolForm matches the ID of a pool that GKE creates.
var gkePoolForm = regexp.MustCompile(`^[a-z][a-z0-9-]*(\.[a-z0-9-]+)*\.svc\.id\.goog$`)

var projectNumber = regexp.MustCompile(`^[0-9]+$`)

// AddPool creates a workload identity pool, as gcloud iam workload-identity-pools
// create does. It does nothing if the pool exists. name is the full resource name:
// //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL.
// The error is Google's if a pool of the name was deleted less than 30 days ago.
func (s *Server) AddPool(name string) error {
	if err := parsePoolName(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ensurePool(name)
}

// AddGKEPool creates the pool PROJECT.svc.id.goog, as GKE does when the first cluster
// of a project uses Workload Identity. No one else can: the ID has dots.
func (s *Server) AddGKEPool(projectID, number string) error {
	id := gkePoolID(projectID)
	if err := checkGKEPool(id, number); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ensureGKEPool(id, number)
}

// gkePoolID is the ID of a project's pool. That of example.com:PROJECT is
// PROJECT.example.com.svc.id.goog.
func gkePoolID(projectID string) string {
	if domain, project, ok := strings.Cut(projectID, ":"); ok {
		projectID = project + "." + domain
	}
	return projectID + ".svc.id.goog"
}

func checkGKEPool(id, number string) error {
	if !gkePoolForm.MatchString(id) || !projectNumber.MatchString(number) {
		return fmt.Errorf("fakegoogle: pool %q of project number %q: GKE's pools have the form PROJECT_ID.svc.id.goog, and a number has digits only", id, number)
	}
	return nil
}

// ensureGKEPool creates a pool of GKE if it does not exist. The caller holds s.mu.
func (s *Server) ensureGKEPool(id, number string) error {
	name := gkePoolName(id, number)
	if existing, ok := s.gkePools[id]; ok && existing != name {
		return fmt.Errorf("fakegoogle: pool %s already is %s: give the same project number", id, existing)
	}
	s.gkePools[id] = name
	return s.ensurePool(name)
}

// ensurePool creates a pool if it does not exist. The caller holds s.mu.
func (s *Server) ensurePool(name string) error {
	if found, ok := s.pool(name); ok {
		if !found.active() {
			return alreadyExists()
		}
		return nil
	}
	s.pools[name] = &deletion{}
	return nil
}

// pool returns a pool that exists or can be undeleted. The caller holds s.mu.
func (s *Server) pool(name string) (*deletion, bool) {
	found, ok := s.pools[name]
	if ok && found.final(s.now()) {
		delete(s.pools, name)
		maps.DeleteFunc(s.providers, func(_ string, p *provider) bool { return p.pool == name })
		return nil, false
	}
	return found, ok
}

// poolActive reports whether a pool exists and is not deleted. The caller holds s.mu.
func (s *Server) poolActive(name string) bool {
	found, ok := s.pool(name)
	return ok && found.active()
}

// DeletePool deletes a pool: its providers exchange no tokens, its tokens grant no
// access, and no policy can name its members. [Server.UndeletePool] restores all that
// within 30 days. The error is Google's.
func (s *Server) DeletePool(name string) error { return s.deletePool(name, true) }

// UndeletePool restores a pool that was deleted less than 30 days ago. The error is
// Google's.
func (s *Server) UndeletePool(name string) error { return s.deletePool(name, false) }

func (s *Server) deletePool(name string, deleted bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.pool(name)
	return s.setDeleted(found, ok, deleted)
}

// DeleteProvider deletes a provider: it exchanges no tokens; tokens that are already
// issued stay valid. [Server.UndeleteProvider] restores it within 30 days. name is as
// in [Provider] or [Membership]; a membership is gone for good. The error is Google's.
func (s *Server) DeleteProvider(name string) error { return s.deleteProvider(name, true) }

// UndeleteProvider restores a provider that was deleted less than 30 days ago. The error
// is Google's.
func (s *Server) UndeleteProvider(name string) error { return s.deleteProvider(name, false) }

func (s *Server) deleteProvider(name string, deleted bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for audience, p := range s.providers {
		if p.gke && p.Name == name && deleted {
			delete(s.providers, audience)
			return nil
		}
	}
	found, ok := s.provider(name)
	if !ok {
		return notFound()
	}
	return s.setDeleted(&found.deletion, ok, deleted)
}

// setDeleted changes the state of a pool or a provider. The caller holds s.mu.
func (s *Server) setDeleted(d *deletion, ok, deleted bool) error {
	switch {
	case !ok:
		return notFound()
	case d.active() != deleted:
		return &Error{Code: http.StatusBadRequest, Status: "FAILED_PRECONDITION", Message: "Precondition check failed."} // text inferred
	case deleted:
		d.at = s.now()
	default:
		d.at = time.Time{}
	}
	return nil
}

// provider returns a provider, by the audience of its token exchanges, that exists or
// can be undeleted. The caller holds s.mu.
func (s *Server) provider(audience string) (*provider, bool) {
	found, ok := s.providers[audience]
	if !ok {
		return nil, false
	}
	if _, ok := s.pool(found.pool); !ok {
		return nil, false
	}
	if found.final(s.now()) {
		delete(s.providers, audience)
		return nil, false
	}
	return found, true
}

func notFound() *Error { return newAPIError(http.StatusNotFound, "Requested entity was not found.") }

// alreadyExists is the refusal of a name that is in use, also by a deleted pool
// (terraform-google-modules/terraform-google-github-actions-runners#49, 2022-01-04).
func alreadyExists() *Error {
	return &Error{Code: http.StatusConflict, Status: "ALREADY_EXISTS", Message: "Requested entity already exists"}
}
