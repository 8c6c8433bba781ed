package conformance

// refusalCases are about requests that get no value for any key.
func refusalCases() []Case {
	const (
		key     = "project/project-id"
		token   = sa + "default/token"
		capture = "google-api-dotnet-client#1409, google-oauth-plugin#91 (GKE, 2020)"
		exact   = "the value is compared exactly"
		proxy   = queryDoc + ": rejected; k8s-metadata-proxy: with 403"
	)
	cases := []Case{
		{"refusals/no flavor header names the missing header", Observed, capture,
			expect(bare("GET", key), status(403), exactly("Missing required header \"Metadata-Flavor\": \"Google\"\n"))},
		{"refusals/no flavor header is plain text", Observed, capture,
			expect(bare("GET", key), status(403), header("Content-Type", "text/plain; charset=utf-8"), header("X-Content-Type-Options", "nosniff"))},
		{"refusals/X-Forwarded-For at the root", Documented, proxy, expect(get("/", "X-Forwarded-For: 10.0.0.1"), status(403))},
		{"refusals/X-Forwarded-For for a token", Documented, proxy, expect(get(token, "X-Forwarded-For: 10.0.0.1"), status(403))},
		{"refusals/X-Forwarded-For in lower case", Documented, proxy, expect(get(key, "x-forwarded-for: 10.0.0.1"), status(403))},
		{"refusals/X-Forwarded-For with the server's own address", Documented, proxy, expect(get(key, "X-Forwarded-For: "+address), status(403))},
		{"refusals/X-Forwarded-For that is empty", Inferred, "any such header is rejected", expect(get(key, "X-Forwarded-For:"), status(403))},
		{"refusals/404 has the text Not Found", Observed, "google-auth-library-python#745 (GKE, 2021): 10 bytes", expect(get("instance/nothing"), status(404), exactly("Not Found\n"))},
	}
	for _, path := range []string{"", "instance", "instance/", key, "instance/id", sa, sa + "default/email", sa + "{email}/email", token, sa + "{email}/token", sa + "default/identity?audience={audience}", "?recursive=true"} {
		cases = append(cases, Case{"refusals/no flavor header: " + path, Observed, capture + "; " + queryDoc + ": the header is required", expect(bare("GET", path), status(403))})
	}
	for _, refusal := range []struct {
		header string
		truth  Truth
		source string
	}{
		{"Metadata-Flavor: google", Inferred, exact},
		{"Metadata-Flavor: Googles", Inferred, exact},
		{"Metadata-Flavor:", Inferred, exact},
		{"Metadata-Flavor: Amazon", Inferred, exact},
		{"X-Google-Metadata-Request: True", Observed, "google-oauth-plugin#91 (GKE, 2020)"},
		{"X-Metadata-Flavor: Google", Inferred, exact},
	} {
		cases = append(cases, Case{"refusals/" + refusal.header, refusal.truth, refusal.source, expect(bare("GET", token, refusal.header), status(403))})
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		cases = append(cases,
			Case{"refusals/" + method + " of a value", Inferred, "the metadata is read only", expect(bare(method, key, flavor, "Content-Length: 0"), refused)},
			Case{"refusals/" + method + " of a token", Inferred, "the metadata is read only", expect(bare(method, token, flavor, "Content-Length: 0"), refused, noToken)})
	}
	return append(cases,
		Case{"refusals/HEAD of a value is GET without its body", Inferred, "RFC 9110, section 9.3.2", headOf("HEAD", key, ok(text))},
		Case{"refusals/HEAD of a token has no body", Inferred, "RFC 9110, section 9.3.2", headOf("HEAD", token, status(200))},
		Case{"refusals/HEAD of an absent key", Inferred, "RFC 9110, section 9.3.2", headOf("HEAD", "instance/nothing", status(404))},
	)
}

// absentCases are about keys that GKE does not serve. Compute Engine serves some of
// them, and software distinguishes the two by their absence.
func absentCases() []Case {
	const (
		subset   = gkeDoc + ": GKE serves a part of the keys; Compute Engine has this one"
		legacy   = gkeDoc + ": never served by GKE; the status is not documented"
		noServer = "no server has it"
	)
	var cases []Case
	for _, a := range []struct {
		path   string
		truth  Truth
		source string
	}{
		{"instance/machine-type", Client, "OpenTelemetry detectors for Go 1.38: its absence keeps them from reporting Compute Engine"},
		{"instance/name", Client, "Datadog agent: util/cloudproviders/gce/gce.go falls back because GKE has none"},
		{"instance/tags", Documented, subset},
		{"instance/image", Documented, subset},
		{"instance/cpu-platform", Documented, subset},
		{"instance/description", Documented, subset},
		{"instance/maintenance-event", Documented, subset},
		{"instance/preempted", Documented, subset},
		{"instance/network-interfaces/", Documented, subset},
		{"instance/network-interfaces/0/ip", Documented, subset},
		{"instance/disks/", Documented, subset},
		{"instance/licenses/", Documented, subset},
		{"instance/scheduling/", Documented, subset},
		{"instance/guest-attributes/", Documented, subset},
		{"instance/virtual-clock/drift-token", Documented, subset},
		{"instance/platform-security/auto-mtls-configuration", Documented, subset},
		{"instance/gce-workload-certificates/trust-anchors", Documented, subset},
		{"instance/attributes/kube-env", Documented, subset + ", with the node's own secrets"},
		{"instance/attributes/ssh-keys", Documented, subset},
		{"project/attributes/", Documented, subset},
		{"project/attributes/ssh-keys", Documented, subset},
		{"oslogin/users", Observed, "google-oauth-plugin#91 (GKE, 2020): v1/ has instance/ and project/"},
		{"universe/universe_domain", Client, "google-auth-library for Java 1.23, run: it uses this misspelling, and takes 404 for the usual domain"},
		{"/0.1/", Inferred, legacy},
		{"/0.1/meta-data/service-accounts/default/acquire", Inferred, legacy},
		{"/computeMetadata/v1beta1/", Inferred, legacy},
		{"/computeMetadata/v1beta1/" + sa + "default/token", Inferred, legacy},
		{"/latest/meta-data/", Inferred, noServer + ": it is another cloud's path"},
		{"instance/nothing", Inferred, noServer},
		{"nothing/", Inferred, noServer},
		{"/nothing", Inferred, noServer},
		{sa + "default/nothing", Inferred, noServer},
		{sa + "DEFAULT/email", Inferred, noServer + ": names are compared exactly"},
		{sa + "other@other-project.iam.gserviceaccount.com/", Inferred, noServer + " except under the account's own names"},
		{sa + "other@other-project.iam.gserviceaccount.com/email", Inferred, noServer + " except under the account's own names"},
		{sa + "other@other-project.iam.gserviceaccount.com/token", Inferred, noServer + " except under the account's own names"},
		{sa + "other@other-project.iam.gserviceaccount.com/identity?audience={audience}", Inferred, noServer + " except under the account's own names"},
		{sa + "other@other-project.iam.gserviceaccount.com/?recursive=true", Inferred, noServer + " except under the account's own names"},
		{sa + "{email}x/token", Inferred, noServer + " except under the account's own names"},
		{sa + "x{email}/token", Inferred, noServer + " except under the account's own names"},
	} {
		cases = append(cases, Case{"absent/" + a.path, a.truth, a.source, expect(get(a.path), status(404))})
	}
	return cases
}
