package fakegoogle

import (
	"regexp"
	"strings"
)

// gkeMember matches serviceAccount:POOL[NAMESPACE/KSA]; its submatches are the pool's
// ID, the namespace and the KSA.
var gkeMember = regexp.MustCompile(`^serviceAccount:([^@\[\]]+)\[([^/\[\]]+)/([^/\[\]]+)\]$`)

// poolMember matches a principal, or a set of principals, of a pool; its submatches are
// the pool and the rest: "Principal identifiers" in Google's IAM documentation.
var poolMember = regexp.MustCompile(`^(?:principal|principalSet):(//iam\.googleapis\.com/projects/[^/]+/locations/global/workloadIdentityPools/[^/]+)/(.+)$`)

// memberKinds are the kinds of members that this server knows, by prefix, and what
// follows the pool in those that are in a pool.
var memberKinds = []struct {
	prefix string
	inPool *regexp.Regexp
}{
	{"user:", nil}, {"serviceAccount:", nil}, {"group:", nil}, {"domain:", nil},
	{"principal://iam.googleapis.com/", regexp.MustCompile(`^subject/.+$`)},
	{"principalSet://iam.googleapis.com/", regexp.MustCompile(`^(\*|(group|namespace|attribute\.[a-z0-9_]+)/.+)$`)},
}

// CheckMember returns IAM's refusal to store a member in a policy; nil if there is none.
// It is for stand-ins of other services, whose policies name the same members.
func (s *Server) CheckMember(member string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.checkMember(member)
}

// checkMember returns IAM's refusal to store a member in a policy. The caller holds
// s.mu.
func (s *Server) checkMember(member string) error {
	for _, kind := range memberKinds {
		rest, ok := strings.CutPrefix(member, kind.prefix)
		if !ok || rest == "" {
			continue
		}
		if kind.inPool != nil {
			m := poolMember.FindStringSubmatch(member)
			if m == nil || !kind.inPool.MatchString(m[2]) {
				name, _, _ := strings.Cut(member, ":")
				return invalidArgument("Invalid %s member (%s).", name, member) // inferred; in 2022 such a member was "of an unknown type": hashicorp/terraform-provider-google#12672
			}
			return s.checkMembersPool(m[1])
		}
		if strings.HasSuffix(rest, "]") {
			m := gkeMember.FindStringSubmatch(member)
			if m == nil {
				return invalidArgument("Invalid service account (%s).", rest) // inferred
			}
			return s.checkMembersPool(m[1])
		}
		return nil
	}
	// gcloud iam service-accounts add-iam-policy-binding --member=ADDRESS, 2024.
	return invalidArgument("The member %s is of an unknown type. Please set a valid type prefix for the member.", member)
}

// checkMembersPool refuses a pool that does not exist. IAM's text is from reports
// about serviceAccount:PROJECT.svc.id.goog[NAMESPACE/KSA] in a project that never had
// a cluster with Workload Identity (google/kctf#193, 2021-01-13;
// googleforgames/global-multiplayer-demo#39, 2023-02-13). That a principal of an
// unknown pool gets the same text, with the pool's name, is inferred. The caller holds
// s.mu.
func (s *Server) checkMembersPool(pool string) error {
	name := pool
	if !strings.HasPrefix(pool, "//") {
		name = s.gkePools[pool] // a pool that users created has no members of this form
	}
	if s.poolActive(name) {
		return nil
	}
	return invalidArgument("Identity Pool does not exist (%s). Please check that you specified a valid resource name "+
		"as returned in the `name` attribute in the configuration API.", strings.TrimPrefix(pool, "//iam.googleapis.com/"))
}
