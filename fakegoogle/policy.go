package fakegoogle

import (
	"slices"
	"strings"
)

// normalMember returns a member of a policy as IAM stores it: e-mail addresses in
// lower case, everything else unchanged.
func normalMember(member string) string {
	for _, kind := range []string{"user:", "serviceAccount:"} {
		if address, ok := strings.CutPrefix(member, kind); ok {
			return kind + strings.ToLower(address)
		}
	}
	return member
}

// normalResource returns the name under which the policy of a resource is stored.
func normalResource(resource string) string {
	if strings.HasPrefix(resource, "projects/") {
		return resource
	}
	return strings.ToLower(resource)
}

// Bind grants a member a role on a resource: the e-mail address of a service
// account, or projects/ID. A service account is created if it does not exist. The error
// is IAM's refusal, for example of a member in a pool that does not exist.
func (s *Server) Bind(resource, role, member string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bind(resource, role, member)
}

// bind is [Server.Bind]. The caller holds s.mu.
func (s *Server) bind(resource, role, member string) error {
	if err := s.checkMember(member); err != nil {
		return err
	}
	resource, member = normalResource(resource), normalMember(member)
	if !strings.HasPrefix(resource, "projects/") {
		s.ensureAccount(resource)
	}
	s.policies[resource] = s.policies[resource].with(role, member)
	return nil
}

// Unbind revokes a member's role on a resource. Tokens that are already issued stay
// valid.
func (s *Server) Unbind(resource, role, member string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resource, member = normalResource(resource), normalMember(member)
	s.policies[resource] = s.policies[resource].without(role, member)
}

// policy is an IAM policy without conditions: one binding per role.
type policy []*binding

type binding struct {
	role    string
	members []string
}

func (p policy) with(role, member string) policy {
	for _, b := range p {
		if b.role == role {
			if !slices.Contains(b.members, member) {
				b.members = append(b.members, member)
			}
			return p
		}
	}
	return append(p, &binding{role: role, members: []string{member}})
}

func (p policy) without(role, member string) policy {
	var remaining policy
	for _, b := range p {
		if b.role == role {
			b.members = slices.DeleteFunc(b.members, func(m string) bool { return m == member })
		}
		if len(b.members) > 0 {
			remaining = append(remaining, b)
		}
	}
	return remaining
}
