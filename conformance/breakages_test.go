package conformance

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Each case fails on a server that breaks the expectation of the case. A case that
// never fails would prove nothing.
func TestCases_FailOnBrokenServer(t *testing.T) {
	correct := map[caller]string{}
	for kind, backend := range backends() {
		correct[kind] = serve(t, backend)
	}
	var mu sync.Mutex
	failed := map[string]bool{}
	t.Run("breakages", func(t *testing.T) {
		for _, b := range breakages() {
			t.Run(b.name, func(t *testing.T) {
				t.Parallel() // most of them wait
				if b.caller == "" {
					b.caller = linked
				}
				var names []string
				for _, pattern := range b.breaks {
					matched := matchingNames(pattern)
					if matched == nil {
						t.Errorf("no case has a name that matches %s", pattern)
					}
					names = append(names, matched...)
				}
				p := &proxy{t: t, target: correct[b.caller], breakage: b}
				for _, r := range run(t, Options{Target: p.start(), Timeout: b.timeout}, names...) {
					mu.Lock()
					failed[r.Name] = failed[r.Name] || r.Outcome == Fail
					mu.Unlock()
					if r.Outcome != Fail {
						t.Errorf("%s: %s %s", r.Name, r.Outcome, r.Reason)
					}
				}
			})
		}
	})
	for _, c := range Cases() {
		if !failed[c.Name] {
			t.Errorf("no breakage makes the case %q fail", c.Name)
		}
	}
}

// The proxy of the breakages does not itself make a case fail.
func TestProxy_PassesCasesWithoutBreakage(t *testing.T) {
	for kind, backend := range backends() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			p := &proxy{t: t, target: serve(t, backend)}
			for _, r := range run(t, Options{Target: p.start()}) {
				if r.Outcome == Fail {
					t.Errorf("%s: expected %s; seen %q", r.Name, r.Expected, r.Seen)
				}
			}
		})
	}
}

const leaf = `values/[^ ]+` // the cases of bare values

func breakages() []breakage {
	return slices.Concat(breakHeaders(), breakValues(), breakDirectories(), breakRecursive(), breakParameters(), breakRefusals(), breakAccounts(), breakTokens(), breakWaiting(), breakRobustness())
}

// setHeader sets a header of each answer, or removes it.
func setHeader(name, value string) func(*ask, *answer) {
	return func(_ *ask, a *answer) {
		if a.header.Del(name); value != "" {
			a.header.Set(name, value)
		}
	}
}

func breakHeaders() []breakage {
	return []breakage{
		{name: "the flavor header is missing", after: setHeader("Metadata-Flavor", ""), breaks: []string{`root/answered.*`, `root/HEAD.*`, `headers/flavor on.*`}},
		{name: "the Server header is another", after: setHeader("Server", "nginx"), breaks: []string{`headers/server.*`}},
		{name: "the root needs the flavor header", after: func(q *ask, a *answer) {
			if q.path() == "/" && q.header.Get("Metadata-Flavor") != "Google" {
				a.set(403, "text/plain", "no")
			}
		}, breaks: []string{`root/answered without.*`, `root/answered with another.*`, `root/ignores a query`}},
		{name: "the root is absent", before: func(q *ask) {
			if q.path() == "/" {
				q.target = "/nothing"
			}
		}, breaks: []string{`root/answered.*`, `root/lists.*`, `root/HEAD.*`, `root/ignores.*`}},
		{name: "the root lists v1", after: func(q *ask, a *answer) {
			if q.path() == "/" {
				a.body = "v1/\n"
			}
		}, breaks: []string{`root/lists.*`, `root/ignores a query`}},
		{name: "HEAD has a body", before: func(q *ask) { q.header.Set("Was", q.method); q.method = "GET" }, after: func(q *ask, a *answer) {
			q.method, a.headBody = q.header.Get("Was"), true
		}, breaks: []string{`.*HEAD.*`}},
		{name: "header names are compared exactly", before: func(q *ask) {
			if strings.Contains(q.head, "metadata-flavor") || strings.Contains(q.head, "METADATA-FLAVOR") {
				q.header.Del("Metadata-Flavor")
			}
		}, breaks: []string{`headers/the flavor header's name.*`}},
		{name: "white space is a part of a header's value", before: func(q *ask) {
			if strings.Contains(q.head, "\t Google") {
				q.header.Del("Metadata-Flavor")
			}
		}, breaks: []string{`headers/white space.*`}},
	}
}

// onLeaf changes bare values.
func onLeaf(f func(*ask, *answer)) func(*ask, *answer) {
	return func(q *ask, a *answer) {
		if a.status == 200 && a.header.Get("Content-Type") == text && a.body != "" && !strings.HasSuffix(a.body, "\n") {
			f(q, a)
		}
	}
}

func breakValues() []breakage {
	const texts = `(values|listings)/.*(is application/text|one per line|has v1/|instance/ and project/|newline)`
	at := func(end string, f func(*answer)) func(*ask, *answer) {
		return func(q *ask, a *answer) {
			if strings.HasSuffix(q.path(), end) && a.status == 200 {
				f(a)
			}
		}
	}
	body := func(end, body string) func(*ask, *answer) { return at(end, func(a *answer) { a.body = body }) }
	return []breakage{
		{name: "a newline after values", after: onLeaf(func(_ *ask, a *answer) { a.body += "\n" }), breaks: []string{leaf, `values/universe.*`, `values/instance/zone has.*`, `accounts/linked: the e-mail address is valid`}},
		{name: "values are empty", after: onLeaf(func(_ *ask, a *answer) { a.body = "" }), breaks: []string{leaf, `values/instance/zone has.*`}},
		{name: "text is text/plain", after: func(_ *ask, a *answer) {
			if a.header.Get("Content-Type") == text {
				a.header.Set("Content-Type", "text/plain")
			}
		}, breaks: []string{texts, `root/lists.*`, `listings/.*`, `recursive/.*lines.*alt=text`, `parameters/alt=text.*`, `parameters/recursive=false.*`, `refusals/HEAD of a value.*`}},
		{name: "text has a charset", after: func(_ *ask, a *answer) {
			if a.header.Get("Content-Type") == text {
				a.header.Set("Content-Type", text+"; charset=utf-8")
			}
		}, breaks: []string{texts}},
		{name: "the universe is forbidden", after: at("universe-domain", func(a *answer) { a.status = 403 }), breaks: []string{`values/universe.*`}},
		{name: "the instance's name has capitals", after: body("instance/name", "Node-1"), breaks: []string{`values/instance/name`}},
		{name: "the zone is in another project", after: body("instance/zone", "projects/1/zones/a-b"), breaks: []string{`values/instance/zone has.*`}},
		{name: "the zone is bare", after: body("instance/zone", "europe-west1-b"), breaks: []string{`values/instance/zone`, `values/instance/zone has.*`}},
		{name: "the location has three dashes", after: body("cluster-location", "a-b-c-d"), breaks: []string{`values/.*cluster-location`}},
		{name: "the cluster's ID is a UUID", after: body("cluster-uid", "6c1e0d6c-3f2b-4b5e-9a1d-2f7c8e9d0a1b"), breaks: []string{`values/.*cluster-uid`}},
		{name: "the ID has 21 digits", after: body("instance/id", strings.Repeat("1", 21)), breaks: []string{`values/instance/id`}},
		{name: "lists have no newline at the end", after: func(_ *ask, a *answer) {
			if a.header.Get("Content-Type") == text {
				a.body = strings.TrimSuffix(a.body, "\n")
			}
		}, breaks: []string{`values/.*(a newline|per line)`, `listings/.*ends every line.*`, `root/lists.*`, `recursive/(as lines|lines have the path).*`}},
		{name: "scopes have spaces between them", after: at("/scopes", func(a *answer) { a.body = strings.ReplaceAll(a.body, "\n", " ") }), breaks: []string{`values/.*scopes.*`}},
	}
}

// onListing changes listings.
func onListing(f func(*ask, *answer)) func(*ask, *answer) {
	return func(q *ask, a *answer) {
		if strings.HasSuffix(q.path(), "/") && a.status == 200 && a.header.Get("Content-Type") == text {
			f(q, a)
		}
	}
}

func breakDirectories() []breakage {
	onRedirect := func(f func(*ask, *answer)) func(*ask, *answer) {
		return func(q *ask, a *answer) {
			if a.status == 301 {
				f(q, a)
			}
		}
	}
	return []breakage{
		{name: "listings are empty", after: onListing(func(_ *ask, a *answer) { a.body = "" }), breaks: []string{
			`listings/.*(has|instance/|project/|default/|\{email\}/)`, `listings/.*(has v1/|both names|no other account|has only)`, `accounts/the e-mail address is listed`, `directories/(Node|apitools).*`}},
		{name: "listings have an additional, unsorted entry", after: onListing(func(_ *ask, a *answer) { a.body += "0\n" }), breaks: []string{
			`listings/.*sorted`, `listings/(instance/|instance/service-accounts/(default|\{email\})/)`, `listings/.*(no other account|has only)`}},
		{name: "a directory without its slash is absent", after: onRedirect(func(_ *ask, a *answer) { a.set(404, "text/plain", "Not Found\n") }), breaks: []string{`directories/.*`, `headers/flavor on a redirect`}},
		{name: "redirects name one host", after: onRedirect(func(q *ask, a *answer) {
			a.header.Set("Location", strings.Replace(a.header.Get("Location"), address, dnsName, 1))
		}), breaks: []string{`directories/.*`}},
		{name: "redirects lose the query", after: onRedirect(func(_ *ask, a *answer) {
			path, _, _ := strings.Cut(a.header.Get("Location"), "?")
			a.header.Set("Location", path)
		}), breaks: []string{`directories/the query is kept.*`}},
		{name: "redirects clean the path", caller: principal, after: onRedirect(func(_ *ask, a *answer) {
			a.header.Set("Location", strings.Replace(a.header.Get("Location"), "principal:/", "principal", 1))
		}), breaks: []string{`accounts/principal: its directory without.*`}},
	}
}

func breakRecursive() []breakage {
	json := func(f func(*ask, *answer)) func(*ask, *answer) {
		return func(q *ask, a *answer) {
			if strings.Contains(q.query(), "recursive=true") && strings.HasPrefix(a.body, "{") {
				f(q, a)
			}
		}
	}
	replace := func(pattern, replacement string) func(*ask, *answer) {
		re := regexp.MustCompile(pattern)
		return json(func(_ *ask, a *answer) { a.body = re.ReplaceAllString(a.body, replacement) })
	}
	lines := func(f func(*answer)) func(*ask, *answer) {
		return func(q *ask, a *answer) {
			if strings.Contains(q.query(), "alt=text") {
				f(a)
			}
		}
	}
	return []breakage{
		{name: "JSON is text/plain", after: func(_ *ask, a *answer) {
			if a.header.Get("Content-Type") == jsonDoc {
				a.header.Set("Content-Type", "text/plain")
			}
		}, breaks: []string{`recursive/.* is application/json`, `recursive/.* has both names`, `recursive/.*camel.*`, `recursive/.*digits`, `recursive/.*keeps the names.*`, `recursive/the whole tree`, `recursive/HEAD.*`,
			`parameters/alt=json.*`, `parameters/token.*`, `accounts/.*is an access token`, `tokens/(default/token|content type|the order|other scopes).*`, `directories/the query is kept`}},
		{name: "JSON has a charset", after: func(_ *ask, a *answer) {
			if a.header.Get("Content-Type") == jsonDoc {
				a.header.Set("Content-Type", jsonDoc+"; charset=utf-8")
			}
		}, breaks: []string{`recursive/.* is application/json`, `tokens/content type.*`}},
		{name: "tokens are in recursive answers", after: replace(`"email":`, `"token":"`+opaque+`","email":`), breaks: []string{`recursive/.*has only.*`, `recursive/the whole tree has no token`}},
		{name: "e-mail addresses differ", after: replace(`"email":"`, `"email":"x`), breaks: []string{`recursive/.*default/ agrees.*`, `recursive/.*email\}/ agrees.*`, `recursive/.*has the e-mail address`}},
		{name: "one name has another address", after: replace(`^\{"`+testGSA+`":\{(.*?)"email":"`, `{"`+testGSA+`":{${1}"email":"x`), breaks: []string{`recursive/.*has the same account.*`}},
		{name: "the account has only one name", after: replace(`"(default|`+testGSA+`)":\{`, `"default":{`), breaks: []string{`recursive/.* has both names`}},
		{name: "keys are as in paths", after: replace(`"projectId"`, `"project-id"`), breaks: []string{`recursive/project/ (has camel|agrees).*`, `recursive/the whole tree`}},
		{name: "the project's number is a string", after: replace(`(?i)"(numericProjectId)":(\d+)`, `"$1":"$2"`), breaks: []string{`recursive/project/ has the number.*`}},
		{name: "the ID is rounded", after: replace(`"id":15534023222112865485`, `"id":15534023222112866000`), breaks: []string{`recursive/instance/ has the ID.*`}},
		{name: "the host name is another", after: replace(`"hostname":"`, `"hostname":"x`), breaks: []string{`recursive/instance/ agrees.*`}},
		{name: "attributes are in camel case", after: replace(`"cluster-name"`, `"clusterName"`), breaks: []string{`recursive/.*keeps the names.*`, `recursive/the whole tree`}},
		{name: "JSON is on several lines", after: func(_ *ask, a *answer) {
			if strings.HasPrefix(a.body, "{") {
				a.body = strings.ReplaceAll(a.body, ",", ",\n")
			}
		}, breaks: []string{`recursive/.*on one line`, `tokens/one line`}},
		{name: "alt=text is ignored", before: func(q *ask) { q.target = strings.Replace(q.target, "alt=text", "", 1) }, breaks: []string{`recursive/as lines.*`, `recursive/lines.*`, `directories/the query.*all.*`}},
		{name: "lines have tokens", after: lines(func(a *answer) { a.body += "default/token " + opaque + "\n" }), breaks: []string{`recursive/lines have no token`}},
		{name: "lines have an equals sign", after: lines(func(a *answer) { a.body = strings.ReplaceAll(a.body, " ", "=") }), breaks: []string{`recursive/as lines.*`, `recursive/lines have the path.*`}},
	}
}
