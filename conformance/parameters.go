package conformance

// parameterCases are about query parameters.
func parameterCases() []row {
	const id, number, email = "project/project-id", "project/numeric-project-id", sa + "default/email"
	const booleans = "googleapis/google-auth-library-java#1450 (Compute Engine, 2025): review comment on boolean parameters"
	cases := []row{
		{"parameters/recursive=True is JSON", Client, "oauth2client for Python 4.1.3, run: it needs the account's content and writes True", expect(get("project/?recursive=True"), ok(jsonDoc), sameAs(get("project/?recursive=true")))},
		{"parameters/alt=text of a value is the value", Documented, queryDoc, expect(get(id+"?alt=text"), ok(text), sameAs(get(id)))},
		{"parameters/alt=json of a value is a JSON string", Documented, queryDoc, expect(get(id+"?alt=json"), ok(jsonDoc), quoted(id, `"`))},
		{"parameters/alt=json of a number is a JSON number", Inferred, "as in recursive answers", expect(get(number+"?alt=json"), ok(jsonDoc), quoted(number, ""))},
		{"parameters/alt=json of the scopes is a list", Observed, "kubernetes#28871: the kubelet sent this", expect(get(sa+"default/scopes?alt=json"), ok(jsonDoc), matching(`\["https://[^"]+"(, ?"https://[^"]+")*\]\n?`))},
		{"parameters/recursive=true of a value is the value", Inferred, "there is nothing below it", expect(get(email+"?recursive=true&alt=text"), status(200), sameAs(get(email)))},
		{"parameters/recursive=false is a listing", Inferred, "as Compute Engine", expect(get("project/?recursive=false"), ok(text), sameAs(get("project/")))},
	}
	for _, value := range []string{"1", "on", "y", "Yes", "TRUE"} {
		cases = append(cases, row{"parameters/recursive=" + value + " is true", Observed, booleans, expect(get("project/?recursive="+value), ok(jsonDoc), sameAs(get("project/?recursive=true")))})
	}
	for _, value := range []string{"0", "ON", "t", "2"} {
		cases = append(cases, row{"parameters/recursive=" + value + " is false", Observed, booleans, expect(get("project/?recursive="+value), ok(text), sameAs(get("project/")))})
	}
	for _, p := range []struct {
		path, query string
		truth       Truth
		source      string
	}{
		{id, "transport=rest&binding-enforcement=on", Client, "cloud.google.com/go/auth 0.24 and google-auth-library for Java 1.43 send these"},
		{id, "bindCertificateFingerprint=abc", Client, "google-auth for Python 2.48 sends it"},
		{id, "enforce_scopes=true", Inferred, "it is a parameter of tokens"},
		{email, "x", Inferred, "unknown parameters are ignored"},
		{email, "a;b=%zz&=&&", Inferred, "unknown parameters are ignored, however they are written"},
		{sa + "default/scopes", "transport=rest", Inferred, "unknown parameters are ignored"},
		{"instance/", "transport=rest", Inferred, "unknown parameters are ignored"},
	} {
		cases = append(cases, row{"parameters/" + p.path + "?" + p.query + " is ignored", p.truth, p.source, expect(get(p.path+"?"+p.query), status(200), sameAs(get(p.path)))})
	}
	for _, p := range []struct {
		query  string
		truth  Truth
		source string
	}{
		{"transport=rest&binding-enforcement=on", Client, "google-auth-library for Java 1.43 sends these"},
		{"bindCertificateFingerprint=abc", Client, "google-auth for Python 2.48 sends it"},
		{"scopes=" + cloudPlatform + "&enforce_scopes=true", Documented, queryDoc},
		{"scopes=" + cloudPlatform, Client, "google-auth-library for Java 1.23 and google/auth for PHP 1.52, run: unescaped"},
		{"scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform", Client, "the libraries for Go, Python, Node and Ruby, run: escaped"},
		{"scopes=" + cloudPlatform + "," + readOnly, Documented, queryDoc},
		{"scopes=" + cloudPlatform + "%2C" + readOnly, Client, "the libraries for Go and Python, run: an escaped comma"},
		{"scopes=" + cloudPlatform + "%20" + readOnly, Inferred, "OAuth 2.0 separates scopes by a space"},
		{"scopes=" + cloudPlatform + "+" + readOnly, Inferred, "OAuth 2.0 separates scopes by a space"},
		{"scopes=" + cloudPlatform + "&scopes=" + readOnly, Inferred, "a parameter can be repeated"},
		{"scopes=", Inferred, "as without the parameter"},
	} {
		cases = append(cases, row{"parameters/token?" + p.query, p.truth, p.source, expect(get(sa+"default/token?"+p.query), accessToken()...)})
	}
	return cases
}

const (
	cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"
	readOnly      = "https://www.googleapis.com/auth/devstorage.read_only"
)

// quoted is the JSON form of a key's value.
func quoted(path, quote string) expectation {
	return func(s *session, r reply) string {
		single := s.send(get(path))
		want := quote + single.body + quote
		return unless(single.status == 200 && (r.body == want || r.body == want+"\n"), "body %q", want)
	}
}
