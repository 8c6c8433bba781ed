package googlecheck

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// roleChecks are about the contents of predefined roles: a role that the documentation of
// this program names has to suffice.
func roleChecks() []Check {
	var checks []Check
	for _, r := range []struct {
		name       string
		has, lacks []string // permissions without iam.serviceAccounts.
		source     string
	}{
		{"serviceAccountViewer", []string{"getIamPolicy"}, []string{"getAccessToken"}, "docs/impersonation.md asks for it to read policies"},
		{"workloadIdentityUser", []string{"getAccessToken", "getOpenIdToken"}, []string{"implicitDelegation", "signBlob"}, `"Workload Identity Federation for GKE": it lets a KSA act as a GSA`},
		{"serviceAccountTokenCreator", []string{"getAccessToken", "getOpenIdToken", "implicitDelegation", "signBlob"}, nil, "IAM Service Account Credentials API, field delegates"},
	} {
		expected := "roles/iam." + r.name + " has " + strings.Join(r.has, ", ")
		if len(r.lacks) > 0 {
			expected += ", and lacks " + strings.Join(r.lacks, ", ")
		}
		checks = append(checks, Check{"roles/" + r.name, expected, r.source, roleHas(r.name, r.has, r.lacks)})
	}
	return checks
}

func roleHas(name string, has, lacks []string) run {
	return func(ctx context.Context, s *scratch) (string, bool, error) {
		role, err := s.iam.Roles.Get("roles/iam." + name).Context(ctx).Do()
		if err != nil {
			return "", false, err
		}
		included := func(permission string) bool {
			return slices.Contains(role.IncludedPermissions, "iam.serviceAccounts."+permission)
		}
		holds := !slices.ContainsFunc(has, func(p string) bool { return !included(p) }) && !slices.ContainsFunc(lacks, included)
		return fmt.Sprintf("%s has %s", role.Name, strings.Join(role.IncludedPermissions, ", ")), holds, nil
	}
}
