package conformance

import "strings"

// recursiveCases are about recursive=true: all below a directory as JSON.
func recursiveCases() []Case {
	account := func(name string) []Case {
		request := get(sa + name + "/?recursive=true")
		return []Case{
			{"recursive/" + sa + name + "/ is " + jsonDoc, Client, "google-auth for Python 2.48, run: it crashes on any other", asks(request, ok(jsonDoc))},
			{"recursive/" + sa + name + "/ has aliases, email and scopes alone", Client, "google-auth for Python 2.48, run; " + queryDoc + ": tokens are left out",
				asks(request, status(200), keys("aliases", "email", "scopes"))},
			{"recursive/" + sa + name + "/ agrees with the single values", Inferred, "one value, two forms",
				asks(request, status(200), agrees("email", sa+name+"/email"), agreesAsList("scopes", sa+name+"/scopes"), agreesAsList("aliases", sa+name+"/aliases"))},
		}
	}
	tree, accounts := get("?recursive=true"), get(sa+"?recursive=true")
	cases := append(account("default"), account("{email}")...)
	return append(cases, []Case{
		{"recursive/" + sa + " has both names", Client, "google-auth-library for Java 1.23, run: it reads default.email", asks(accounts, ok(jsonDoc), keys("default", "{email}"))},
		{"recursive/" + sa + " says the e-mail address", Client, "google-auth-library for Java 1.23, run: it reads default.email", asks(accounts, status(200), agrees("default.email", sa+"default/email"))},
		{"recursive/" + sa + " says the same of both names", Inferred, "one account, two names", asks(accounts, status(200), sameTwice)},
		{"recursive/project/ has camel case keys", Documented, queryDoc, asks(get("project/?recursive=true"), ok(jsonDoc), has("projectId"), has("numericProjectId"))},
		{"recursive/project/ agrees with the single value", Inferred, "one value, two forms", asks(get("project/?recursive=true"), status(200), agrees("projectId", "project/project-id"))},
		{"recursive/project/ has the number as a number", Inferred, "as Compute Engine", asks(get("project/?recursive=true"), status(200), agreesAsNumber("numericProjectId", "project/numeric-project-id"))},
		{"recursive/instance/ has the ID as a number of all its digits", Inferred, "as Compute Engine; it is larger than a float64 holds", asks(get("instance/?recursive=true"), ok(jsonDoc), agreesAsNumber("id", "instance/id"))},
		{"recursive/instance/ agrees with the single values", Inferred, "one value, two forms",
			asks(get("instance/?recursive=true"), status(200), agrees("zone", "instance/zone"), agrees("hostname", "instance/hostname"))},
		{"recursive/instance/attributes/ has its names untouched", Documented, queryDoc,
			asks(get("instance/attributes/?recursive=true"), ok(jsonDoc), agrees("cluster-name", "instance/attributes/cluster-name"), agrees("cluster-location", "instance/attributes/cluster-location"))},
		{"recursive/the whole tree", Inferred, "as every directory", asks(tree, ok(jsonDoc), has("instance.serviceAccounts.default.email"), has("instance.attributes.cluster-name"), has("project.projectId"))},
		{"recursive/the whole tree has no token", Documented, queryDoc, asks(tree, status(200), noToken)},
		{"recursive/the whole tree is JSON on one line", Inferred, "as Compute Engine", asks(tree, status(200), matching(`\{[^\n]*\}\n?`))},
		{"recursive/HEAD has no body", Inferred, "RFC 9110, section 9.3.2", headOf("HEAD", sa+"default/?recursive=true", ok(jsonDoc))},
		{"recursive/as lines with alt=text", Documented, queryDoc,
			asks(get("project/?recursive=true&alt=text"), ok(text), wholeLines, linesOf("project-id", "project/project-id"), linesOf("numeric-project-id", "project/numeric-project-id"))},
		{"recursive/lines have the path and the name of the account", Documented, queryDoc,
			asks(get(sa+"?recursive=true&alt=text"), ok(text), wholeLines, linesOf("default/email", sa+"default/email"), linesOf("{email}/email", sa+"default/email"))},
		{"recursive/lines have no token", Documented, queryDoc, asks(get("?recursive=true&alt=text"), ok(text), noToken)},
	}...)
}

// agreesAsList says that a place of the JSON object is the list that a key says by lines.
func agreesAsList(place, path string) expectation {
	return func(s *session, r reply) string {
		single := s.ask(get(path))
		list, _ := r.at(place).([]any)
		var b strings.Builder
		for _, entry := range list {
			line, _ := entry.(string)
			b.WriteString(line + "\n")
		}
		return unless(single.status == 200 && b.String() == single.body, "%s: a list of %q, as %s says", place, single.body, path)
	}
}

// linesOf is a line with a key and the value that the key has alone.
func linesOf(name, path string) expectation {
	return func(s *session, r reply) string {
		single := s.ask(get(path))
		want := s.filled([]string{name + " " + single.body + "\n"})[0]
		return unless(single.status == 200 && strings.Contains("\n"+r.body, "\n"+want), "the line %q", want)
	}
}

// sameTwice says that the two names of the account have the same value.
func sameTwice(s *session, r reply) string {
	document, _ := r.document()
	email, err := s.email()
	a, _ := document["default"].(map[string]any)
	b, _ := document[email].(map[string]any)
	return unless(err == nil && a != nil && a["email"] == b["email"] && len(a) == len(b), "the same of default and %s", email)
}

// noToken is a body without anything like a token, and without the keys of tokens.
func noToken(s *session, r reply) string {
	hidden := s.secrets.hide(r.body) != r.body
	for _, key := range []string{`"token"`, `"identity"`, "/token ", "/identity "} {
		hidden = hidden || strings.Contains(r.body, key)
	}
	return unless(!hidden, "neither a token nor its key")
}
