package conformance

import (
	"net/http"
	"net/url"
	"strings"
)

// directories are all that every server has.
func directories() []string {
	return []string{"/computeMetadata/", root, "instance/", "instance/attributes/", sa, sa + "default/", sa + "{email}/", "project/"}
}

// label is a directory in a case's name.
func label(directory string) string { return strings.TrimPrefix(directory, "/") }

// listingCases are about directories asked for with their slash.
func listingCases() []Case {
	keys := []string{"aliases", "email", "identity", "scopes", "token"}
	cases := []Case{
		{"listings/computeMetadata/ has v1/", Inferred, "as Compute Engine", asks(get("/computeMetadata/"), ok(text), lists("v1/"))},
		{"listings/computeMetadata/v1/ has instance/ and project/", Observed, "google-oauth-plugin#91 (GKE, 2020)", asks(get(""), ok(text), lists("instance/", "project/"))},
		{"listings/project/", Documented, gkeDoc, asks(get("project/"), ok(text), lists("numeric-project-id", "project-id"))},
		{"listings/instance/", Documented, gkeDoc, asks(get("instance/"), ok(text), listsOnly("attributes/", "hostname", "id", "service-accounts/", "zone"))},
		{"listings/instance/attributes/ has the cluster's and no other", Documented, gkeDoc,
			asks(get("instance/attributes/"), ok(text), listsOnly("cluster-location", "cluster-name", "cluster-uid"))},
		{"listings/" + sa + " has both names", Client, "gcloud 528.0.0, run: an account that is not listed has no credentials", asks(get(sa), ok(text), lists("default/", "{email}/"))},
		{"listings/" + sa + " has nobody else", Documented, gkeDoc, asks(get(sa), ok(text), listsOnly("default/", "{email}/"))},
		{"listings/" + sa + "default/", Documented, keysDoc, asks(get(sa+"default/"), ok(text), listsOnly(keys...))},
		{"listings/" + sa + "{email}/", Documented, keysDoc, asks(get(sa+"{email}/"), ok(text), listsOnly(keys...))},
	}
	for _, d := range directories() {
		cases = append(cases, Case{"listings/" + label(d) + " ends every line with a newline", Inferred, "as / of GKE (google-auth-library-ruby#228, 2019): 17 bytes for computeMetadata/", asks(get(d), ok(text), wholeLines, lists())})
		if d != sa { // whose order no client relies on
			cases = append(cases, Case{"listings/" + label(d) + " is in order", Inferred, "as Compute Engine", asks(get(d), ok(text), sorted)})
		}
	}
	return cases
}

// directoryCases are about directories asked for without their slash.
func directoryCases() []Case {
	const inferred = "clients ask by address where the name does not resolve, and must not be sent to it"
	cases := []Case{
		{"directories/Node's probe finds instance", Client, "gcp-metadata for Node 8.1, run: a 404 is no metadata server", slashless("instance", "", ok(text), lists("id"))},
		{"directories/apitools finds the accounts", Client, "gsutil of gcloud 528.0.0: apitools/base/py/credentials_lib.py", slashless(sa[:len(sa)-1], "", ok(text), lists("default/", "{email}/"))},
		{"directories/the query is kept", Inferred, "a redirect that loses recursive=true changes what is asked for",
			slashless(sa+"default", "?recursive=true", ok(jsonDoc), keys("aliases", "email", "scopes"))},
		{"directories/the query is kept with all its parameters", Inferred, "a redirect that loses recursive=true changes what is asked for",
			slashless(sa+"{email}", "?alt=text&recursive=true&x=%20y", ok(text), lists("aliases", "email"))},
	}
	for _, d := range directories() {
		cases = append(cases, Case{"directories/" + label(d) + " without its slash is redirected or listed", Inferred, inferred, slashless(d[:len(d)-1], "", ok(text), sameAs(get(d)))})
	}
	return cases
}

// slashless asks for a directory without its slash, by address and by name. The
// answer is the way to it on the same host, or at once its own.
func slashless(path, query string, expectations ...expectation) check {
	return func(s *session) error {
		for _, host := range []string{address, dnsName} {
			r := s.ask(to(host, "GET", path+query, flavor))
			if r.status != http.StatusOK {
				if err := s.expect(r, status(301, 302, 307, 308), location(host, path+"/"+query)); err != nil {
					return err
				}
				r = s.ask(to(host, "GET", path+"/"+query, flavor))
			}
			if err := s.expect(r, expectations...); err != nil {
				return err
			}
		}
		return nil
	}
}

// location leads to a path of the host that was asked.
func location(host, path string) expectation {
	return func(s *session, r reply) string {
		to, err := s.fill(full(path))
		if err != nil {
			return err.Error()
		}
		got, err := url.PathUnescape(r.header.Get("Location"))
		want, _ := url.PathUnescape(to)
		return unless(err == nil && (got == want || got == "http://"+host+want), "header Location: http://%s%s", host, to)
	}
}
