package conformance

import "strings"

// accountCases are about the account's two names.
func accountCases() []Case {
	const (
		second   = "google-auth for Python 2.48, run: from the second refresh on it asks by e-mail address"
		collapse = "google-auth for Python 2.48, run: joining URLs makes double slashes single"
		managed  = "managed Kafka's login callback: validatePrincipalEmail"
	)
	cases := []Case{
		{"accounts/the e-mail address is listed", Client, "gcloud 528.0.0, run: an account that is not listed has no credentials", asks(get(sa), status(200), lists("{email}/"))},
		{"accounts/{email}/email says the same", Client, second, asks(get(sa+"{email}/email"), status(200), sameAs(get(sa+"default/email")))},
		{"accounts/{email}/aliases says the same", Inferred, "one account, two names", asks(get(sa+"{email}/aliases"), status(200), sameAs(get(sa+"default/aliases")))},
		{"accounts/{email}/scopes says the same", Inferred, "one account, two names", asks(get(sa+"{email}/scopes"), status(200), sameAs(get(sa+"default/scopes")))},
		{"accounts/{email}/?recursive=true says the same", Client, second, asks(get(sa+"{email}/?recursive=true"), status(200), sameAs(get(sa+"default/?recursive=true")))},
		{"accounts/{email}/token is an access token", Client, "gcloud 528.0.0, run; google-auth for Python 2.39, run", asks(get(sa+"{email}/token"), accessToken()...)},
		{"accounts/the e-mail address percent-encoded", Inferred, "clients send @ as it is; what need not be encoded may be", asks(get(sa+"{escaped}/email"), status(200), sameAs(get(sa+"default/email")))},
		{"accounts/linked: the e-mail address is one", Observed, "cloudnative-pg#5370 (GKE, 2024)", only(linked, asks(get(sa+"default/email"), status(200), matching(`[^@\s/]+@[^@\s/]+\.[^@\s/]+`)))},
		{"accounts/linked: the workload pool is no name of it", Inferred, "it has two names", only(linked, poolIsAbsent)},
		{"accounts/unlinked: the workload pool stands for the e-mail address", Client, managed, only(unlinked, asks(get(sa+"default/email"), status(200), matching(`[^@\s/]+\.[^@\s/]+`)))},
		{"accounts/unlinked: the workload pool is listed", Client, "gcloud 528.0.0, run", only(unlinked, asks(get(sa), status(200), listsOnly("default/", "{email}/")))},
		{"accounts/principal: the identifier stands for the e-mail address", Documented, gkeDoc,
			only(principal, asks(get(sa+"default/email"), status(200), matching(`principal://iam\.googleapis\.com/projects/[0-9]+/locations/global/workloadIdentityPools/[^/\s]+/subject/ns/[^/\s]+/sa/[^/\s]+`)))},
		{"accounts/principal: its directory, both slashes made one", Client, collapse, only(principal, asks(get(sa+"{collapsed}/?recursive=true"), ok(jsonDoc), sameAs(get(sa+"default/?recursive=true"))))},
		{"accounts/principal: its token, both slashes made one", Client, collapse, only(principal, asks(get(sa+"{collapsed}/token"), accessToken()...))},
		{"accounts/principal: its token, with both slashes", Client, "gcloud 528.0.0, run", only(principal, asks(get(sa+"{email}/token"), accessToken()...))},
		{"accounts/principal: its directory without the last slash", Client, "as every directory; a path that is cleaned leads elsewhere", only(principal, slashless(sa+"{collapsed}", "?recursive=true", ok(jsonDoc), keys("aliases", "email", "scopes")))},
		{"accounts/principal: not another's", Inferred, "it has two names", only(principal, asks(get(sa+"{collapsed}-other/token"), status(404)))},
	}
	return cases
}

// poolIsAbsent asks for the account by the name that it had without the link.
func poolIsAbsent(s *session) error {
	project := s.ask(get("project/project-id"))
	return s.expect(s.ask(get(sa+strings.TrimSpace(project.body)+".svc.id.goog/token")), status(404))
}
