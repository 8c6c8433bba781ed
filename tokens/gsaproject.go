package tokens

import "strings"

// gsaProject is the ID of the project that the address of a GSA tells, or empty if the
// address tells none, as that of Compute Engine's default service account: it has the
// project's number. See "Service account types" in IAM's documentation (2026-11).
func gsaProject(email string) string {
	name, domain, _ := strings.Cut(strings.ToLower(email), "@") // IDs of projects have no capital letters
	project, found := strings.CutSuffix(domain, ".iam.gserviceaccount.com")
	if !found && domain == "appspot.gserviceaccount.com" {
		project = name
	} else if !found {
		return ""
	}
	// Addresses have the ID of a domain-scoped project (example.com:project) reversed.
	if id, organization, scoped := strings.Cut(project, "."); scoped {
		return organization + ":" + id
	}
	return project
}
