package conformance

import (
	"net/http"
	"net/url"
	"strings"
)

// directories returns the directories that every server has.
func directories() []string {
	return []string{"/computeMetadata/", root, "instance/", "instance/attributes/", sa, sa + "default/", sa + "{email}/", "project/"}
}

// label returns the name of a directory in the name of a case.
func label(directory string) string { return strings.TrimPrefix(directory, "/") }

// listingCases are about directories that are requested with their slash.
func listingCases() []row {
	keys := []string{"aliases", "email", "identity", "scopes", "token"}
	cases := []row{
		{"listings/computeMetadata/ has v1/", Inferred, "as Compute Engine", expect(get("/computeMetadata/"), ok(text), lists("v1/"))},
		{"listings/computeMetadata/v1/ has instance/ and project/", Observed, "google-oauth-plugin#91 (GKE, 2020)", expect(get(""), ok(text), lists("instance/", "project/"))},
		{"listings/project/", Documented, gkeDoc, expect(get("project/"), ok(text), lists("numeric-project-id", "project-id"))},
		{"listings/instance/", Inferred, "istio/istio#43185 (GKE, 2023), and name, which GKE has since 2026", expect(get("instance/"), ok(text), listsOnly("attributes/", "hostname", "id", "name", "service-accounts/", "zone"))},
		{"listings/instance/attributes/ has only the cluster's attributes", Documented, gkeDoc,
			expect(get("instance/attributes/"), ok(text), listsOnly("cluster-location", "cluster-name", "cluster-uid"))},
		{"listings/" + sa + " has both names", Client, "gcloud 528.0.0, run: an account that is not listed has no credentials", expect(get(sa), ok(text), lists("default/", "{email}/"))},
		{"listings/" + sa + " has no other account", Documented, gkeDoc, expect(get(sa), ok(text), listsOnly("default/", "{email}/"))},
		{"listings/" + sa + "default/", Documented, keysDoc, expect(get(sa+"default/"), ok(text), listsOnly(keys...))},
		{"listings/" + sa + "{email}/", Documented, keysDoc, expect(get(sa+"{email}/"), ok(text), listsOnly(keys...))},
	}
	for _, d := range directories() {
		cases = append(cases, row{"listings/" + label(d) + " ends every line with a newline", Inferred, "as / of GKE (google-auth-library-ruby#228, 2019): 17 bytes for computeMetadata/", expect(get(d), ok(text), wholeLines, lists())})
		if d != sa { // no client relies on the order of the accounts
			cases = append(cases, row{"listings/" + label(d) + " is sorted", Inferred, "as Compute Engine", expect(get(d), ok(text), sorted)})
		}
	}
	return cases
}

// directoryCases are about directories that are requested without their slash.
func directoryCases() []row {
	const inferred = "clients use the address if the name does not resolve, and must not be redirected to the name"
	cases := []row{
		{"directories/Node's probe finds instance", Client, "gcp-metadata for Node 8.1, run: it takes 404 for no metadata server", slashless("instance", "", ok(text), lists("id"))},
		{"directories/apitools finds the accounts", Client, "gsutil of gcloud 528.0.0: apitools/base/py/credentials_lib.py", slashless(sa[:len(sa)-1], "", ok(text), lists("default/", "{email}/"))},
		{"directories/the query is kept", Inferred, "a redirect that loses recursive=true changes the request",
			slashless(sa+"default", "?recursive=true", ok(jsonDoc), keys("aliases", "email", "scopes"))},
		{"directories/the query is kept with all its parameters", Inferred, "a redirect that loses recursive=true changes the request",
			slashless(sa+"{email}", "?alt=text&recursive=true&x=%20y", ok(text), lists("aliases", "email"))},
	}
	for _, d := range directories() {
		cases = append(cases, row{"directories/" + label(d) + " without its slash is redirected or listed", Inferred, inferred, slashless(d[:len(d)-1], "", ok(text), sameAs(get(d)))})
	}
	return cases
}

// slashless requests a directory without its slash, by address and by name. The answer
// is the directory, or a redirect to it on the same host.
func slashless(path, query string, expectations ...expectation) check {
	return func(s *session) error {
		for _, host := range []string{address, dnsName} {
			r := s.send(requestTo(host, "GET", path+query, flavor))
			if r.status != http.StatusOK {
				if err := s.expect(r, status(301, 302, 307, 308), location(host, path+"/"+query)); err != nil {
					return err
				}
				r = s.send(requestTo(host, "GET", path+"/"+query, flavor))
			}
			if err := s.expect(r, expectations...); err != nil {
				return err
			}
		}
		return nil
	}
}

// location is a redirect to a path on the same host.
func location(host, path string) expectation {
	return func(s *session, r reply) string {
		target, err := s.fill(fullPath(path))
		if err != nil {
			return err.Error()
		}
		got, err := url.PathUnescape(r.header.Get("Location"))
		want, _ := url.PathUnescape(target)
		return unless(err == nil && (got == want || got == "http://"+host+want), "header Location: http://%s%s", host, target)
	}
}
