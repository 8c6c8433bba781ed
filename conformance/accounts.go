package conformance

import "strings"

// accountCases are about the account's two names.
func accountCases() []row {
	const (
		second   = "google-auth for Python 2.48, run: from the second refresh on it requests by e-mail address"
		collapse = "google-auth for Python 2.48, run: joining URLs collapses double slashes"
		managed  = "managed Kafka's login callback: validatePrincipalEmail"
	)
	cases := []row{
		{"accounts/the e-mail address is listed", Client, "gcloud 528.0.0, run: an account that is not listed has no credentials", expect(get(sa), status(200), lists("{email}/"))},
		{"accounts/{email}/email is the same", Client, second, expect(get(sa+"{email}/email"), status(200), sameAs(get(sa+"default/email")))},
		{"accounts/{email}/aliases is the same", Inferred, "one account, two names", expect(get(sa+"{email}/aliases"), status(200), sameAs(get(sa+"default/aliases")))},
		{"accounts/{email}/scopes is the same", Inferred, "one account, two names", expect(get(sa+"{email}/scopes"), status(200), sameAs(get(sa+"default/scopes")))},
		{"accounts/{email}/?recursive=true is the same", Client, second, expect(get(sa+"{email}/?recursive=true"), status(200), sameAs(get(sa+"default/?recursive=true")))},
		{"accounts/{email}/token is an access token", Client, "gcloud 528.0.0, run; google-auth for Python 2.39, run", expect(get(sa+"{email}/token"), accessToken()...)},
		{"accounts/the e-mail address percent-encoded", Inferred, "clients send @ as it is; RFC 3986 also allows %40", expect(get(sa+"{escaped}/email"), status(200), sameAs(get(sa+"default/email")))},
		{"accounts/linked: the e-mail address is valid", Observed, "cloudnative-pg#5370 (GKE, 2024)", ifLinked(expect(get(sa+"default/email"), status(200), matching(`[^@\s/]+@[^@\s/]+\.[^@\s/]+`)))},
		{"accounts/linked: the workload pool is not a name of the account", Inferred, "the account has two names", ifLinked(poolIsAbsent)},
		{"accounts/unlinked: the workload pool is shown as the e-mail address", Client, managed, ifUnlinked(expect(get(sa+"default/email"), status(200), matching(`[^@\s/]+\.[^@\s/]+`)))},
		{"accounts/unlinked: the workload pool is listed", Client, "gcloud 528.0.0, run", ifUnlinked(expect(get(sa), status(200), listsOnly("default/", "{email}/")))},
		// The second subject is that of a cluster that Google trusts through a pool of the
		// operator's: "Workload Identity Federation with Kubernetes".
		{"accounts/principal: the identifier is shown as the e-mail address", Documented, gkeDoc,
			ifPrincipal(expect(get(sa+"default/email"), status(200), matching(`principal://iam\.googleapis\.com/projects/[0-9]+/locations/global/workloadIdentityPools/[^/\s]+/subject/(ns/[^/\s]+/sa/[^/\s]+|system:serviceaccount:[^/:\s]+:[^/:\s]+)`)))},
		{"accounts/principal: its directory, with double slashes collapsed", Client, collapse, ifPrincipal(expect(get(sa+"{collapsed}/?recursive=true"), ok(jsonDoc), sameAs(get(sa+"default/?recursive=true"))))},
		{"accounts/principal: its token, with double slashes collapsed", Client, collapse, ifPrincipal(expect(get(sa+"{collapsed}/token"), accessToken()...))},
		{"accounts/principal: its token, with double slashes", Client, "gcloud 528.0.0, run", ifPrincipal(expect(get(sa+"{email}/token"), accessToken()...))},
		{"accounts/principal: its directory without the last slash", Client, "as every directory; a cleaned path leads elsewhere", ifPrincipal(slashless(sa+"{collapsed}", "?recursive=true", ok(jsonDoc), keys("aliases", "email", "scopes")))},
		{"accounts/principal: another name is 404", Inferred, "the account has two names", ifPrincipal(expect(get(sa+"{collapsed}-other/token"), status(404)))},
	}
	return cases
}

// poolIsAbsent requests a token by the name that the account has without a link.
func poolIsAbsent(s *session) error {
	project := s.send(get("project/project-id"))
	return s.expect(s.send(get(sa+strings.TrimSpace(project.body)+".svc.id.goog/token")), status(404))
}
