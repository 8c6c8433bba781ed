package conformance

import "strings"

// recursiveCases are about recursive=true: the tree below a directory as JSON.
func recursiveCases() []row {
	account := func(name string) []row {
		request := get(sa + name + "/?recursive=true")
		return []row{
			{"recursive/" + sa + name + "/ is " + jsonDoc, Client, "google-auth for Python 2.48, run: it crashes on any other", expect(request, ok(jsonDoc))},
			{"recursive/" + sa + name + "/ has only aliases, email and scopes", Client, "google-auth for Python 2.48, run; " + queryDoc + ": tokens are left out",
				expect(request, status(200), keys("aliases", "email", "scopes"))},
			{"recursive/" + sa + name + "/ agrees with the single values", Inferred, "one value, two forms",
				expect(request, status(200), fieldIsString("email", sa+name+"/email"), fieldIsList("scopes", sa+name+"/scopes"), fieldIsList("aliases", sa+name+"/aliases"))},
		}
	}
	tree, accounts := get("?recursive=true"), get(sa+"?recursive=true")
	cases := append(account("default"), account("{email}")...)
	return append(cases, []row{
		{"recursive/" + sa + " has both names", Client, "google-auth-library for Java 1.23, run: it reads default.email", expect(accounts, ok(jsonDoc), keys("default", "{email}"))},
		{"recursive/" + sa + " has the e-mail address", Client, "google-auth-library for Java 1.23, run: it reads default.email", expect(accounts, status(200), fieldIsString("default.email", sa+"default/email"))},
		{"recursive/" + sa + " has the same account under both names", Inferred, "one account, two names", expect(accounts, status(200), sameAccounts)},
		{"recursive/project/ has camel case keys", Documented, queryDoc, expect(get("project/?recursive=true"), ok(jsonDoc), hasField("projectId"), hasField("numericProjectId"))},
		{"recursive/project/ agrees with the single value", Inferred, "one value, two forms", expect(get("project/?recursive=true"), status(200), fieldIsString("projectId", "project/project-id"))},
		{"recursive/project/ has the number as a JSON number", Inferred, "as Compute Engine", expect(get("project/?recursive=true"), status(200), fieldIsNumber("numericProjectId", "project/numeric-project-id"))},
		{"recursive/instance/ has the ID as a number with all its digits", Inferred, "as Compute Engine; it is larger than a float64 holds", expect(get("instance/?recursive=true"), ok(jsonDoc), fieldIsNumber("id", "instance/id"))},
		{"recursive/instance/ agrees with the single values", Inferred, "one value, two forms",
			expect(get("instance/?recursive=true"), status(200), fieldIsString("zone", "instance/zone"), fieldIsString("hostname", "instance/hostname"), fieldIsString("name", "instance/name"))},
		{"recursive/instance/attributes/ keeps the names of the attributes", Documented, queryDoc,
			expect(get("instance/attributes/?recursive=true"), ok(jsonDoc), fieldIsString("cluster-name", "instance/attributes/cluster-name"), fieldIsString("cluster-location", "instance/attributes/cluster-location"))},
		{"recursive/the whole tree", Inferred, "as every directory", expect(tree, ok(jsonDoc), hasField("instance.serviceAccounts.default.email"), hasField("instance.attributes.cluster-name"), hasField("project.projectId"))},
		{"recursive/the whole tree has no token", Documented, queryDoc, expect(tree, status(200), noToken)},
		{"recursive/the whole tree is JSON on one line", Inferred, "as Compute Engine", expect(tree, status(200), matching(`\{[^\n]*\}\n?`))},
		{"recursive/HEAD has no body", Inferred, "RFC 9110, section 9.3.2", headOf("HEAD", sa+"default/?recursive=true", ok(jsonDoc))},
		{"recursive/as lines with alt=text", Documented, queryDoc,
			expect(get("project/?recursive=true&alt=text"), ok(text), wholeLines, hasLine("project-id", "project/project-id"), hasLine("numeric-project-id", "project/numeric-project-id"))},
		{"recursive/lines have the path and the name of the account", Documented, queryDoc,
			expect(get(sa+"?recursive=true&alt=text"), ok(text), wholeLines, hasLine("default/email", sa+"default/email"), hasLine("{email}/email", sa+"default/email"))},
		{"recursive/lines have no token", Documented, queryDoc, expect(get("?recursive=true&alt=text"), ok(text), noToken)},
	}...)
}

// fieldIsList is a JSON object with a field whose list has the lines of a key.
func fieldIsList(field, path string) expectation {
	return func(s *session, r reply) string {
		single := s.send(get(path))
		list, _ := r.field(field).([]any)
		var b strings.Builder
		for _, entry := range list {
			line, _ := entry.(string)
			b.WriteString(line + "\n")
		}
		return unless(single.status == 200 && b.String() == single.body, "%s: a list of %q, the lines of %s", field, single.body, path)
	}
}

// hasLine is a body with a line of a name and the value of a key.
func hasLine(name, path string) expectation {
	return func(s *session, r reply) string {
		single := s.send(get(path))
		want := s.filled([]string{name + " " + single.body + "\n"})[0]
		return unless(single.status == 200 && strings.Contains("\n"+r.body, "\n"+want), "the line %q", want)
	}
}

// sameAccounts is a JSON object with the same account under both of its names.
func sameAccounts(s *session, r reply) string {
	document, _ := r.document()
	email, err := s.email()
	a, _ := document["default"].(map[string]any)
	b, _ := document[email].(map[string]any)
	return unless(err == nil && a != nil && a["email"] == b["email"] && len(a) == len(b), "the same account under default and %s", email)
}

// noToken is a body without a token, and without the keys of tokens.
func noToken(s *session, r reply) string {
	hidden := s.secrets.hide(r.body) != r.body
	for _, key := range []string{`"token"`, `"identity"`, "/token ", "/identity "} {
		hidden = hidden || strings.Contains(r.body, key)
	}
	return unless(!hidden, "neither a token nor its key")
}
