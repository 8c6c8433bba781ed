package conformance

// refusalCases are about requests that get no value for any key.
func refusalCases() []row {
	const (
		key     = "project/project-id"
		token   = sa + "default/token"
		capture = "google-api-dotnet-client#1409, google-oauth-plugin#91 (GKE, 2020)"
		exact   = "the value is compared exactly"
		proxy   = queryDoc + ": rejected; k8s-metadata-proxy: with 403"
	)
	cases := []row{
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
		cases = append(cases, row{"refusals/no flavor header: " + path, Observed, capture + "; " + queryDoc + ": the header is required", expect(bare("GET", path), status(403))})
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
		cases = append(cases, row{"refusals/" + refusal.header, refusal.truth, refusal.source, expect(bare("GET", token, refusal.header), status(403))})
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
		cases = append(cases,
			row{"refusals/" + method + " of a value", Inferred, "the metadata is read only", expect(bare(method, key, flavor, "Content-Length: 0"), refused)},
			row{"refusals/" + method + " of a token", Inferred, "the metadata is read only", expect(bare(method, token, flavor, "Content-Length: 0"), refused, noToken)})
	}
	return append(cases,
		row{"refusals/HEAD of a value is GET without its body", Inferred, "RFC 9110, section 9.3.2", headOf("HEAD", key, ok(text))},
		row{"refusals/HEAD of a token has no body", Inferred, "RFC 9110, section 9.3.2", headOf("HEAD", token, status(200))},
		row{"refusals/HEAD of an absent key", Inferred, "RFC 9110, section 9.3.2", headOf("HEAD", "instance/nothing", status(404))},
	)
}

// absentCases are about keys that GKE does not serve. Compute Engine serves some of
// them, and software distinguishes the two by their absence. Google adds keys now and
// then, so each row has the month in which its source was published or, if it is a
// document, was read.
func absentCases() []Case {
	const (
		subset   = gkeDoc + ": GKE serves a part of the keys; Compute Engine has this one"
		listed   = subset + "; istio/istio#43185 (2023) has the listing of a pod"
		legacy   = gkeDoc + ": never served by GKE; the status is not documented"
		noServer = "no server has it"
		others   = noServer + " except under the account's own names"
		read     = "2026-11"
	)
	var cases []Case
	for _, a := range []struct {
		path   string
		truth  Truth
		source string
		asOf   string
	}{
		{"instance/machine-type", Observed, "open-telemetry/opentelemetry-collector-contrib#50662; OpenTelemetry detectors for Go 1.38: its absence keeps them from reporting Compute Engine", "2026-09"},
		{"instance/tags", Documented, listed, read},
		{"instance/image", Documented, listed, read},
		{"instance/cpu-platform", Documented, listed, read},
		{"instance/description", Documented, listed, read},
		{"instance/maintenance-event", Documented, listed, read},
		{"instance/preempted", Documented, listed, read},
		{"instance/network-interfaces/", Documented, listed, read},
		{"instance/network-interfaces/0/ip", Documented, listed, read},
		{"instance/disks/", Documented, listed, read},
		{"instance/licenses/", Documented, listed, read},
		{"instance/scheduling/", Documented, listed, read},
		{"instance/guest-attributes/", Documented, listed, read},
		{"instance/virtual-clock/drift-token", Documented, listed, read},
		{"instance/platform-security/auto-mtls-configuration", Documented, listed, read},
		{"instance/gce-workload-certificates/trust-anchors", Documented, listed, read},
		{"instance/attributes/kube-env", Documented, subset + ", with the node's own secrets", read},
		{"instance/attributes/ssh-keys", Documented, listed, read},
		{"project/attributes/", Documented, subset, read},
		{"project/attributes/ssh-keys", Documented, subset, read},
		{"oslogin/users", Observed, "google-oauth-plugin#91 (GKE): v1/ has instance/ and project/", "2020-07"},
		{"universe/universe_domain", Client, "google-auth-library for Java 1.23, run: it uses this misspelling, and takes 404 for the usual domain", "2024-02"},
		{"/0.1/", Inferred, legacy, read},
		{"/0.1/meta-data/service-accounts/default/acquire", Inferred, legacy, read},
		{"/computeMetadata/v1beta1/", Inferred, legacy, read},
		{"/computeMetadata/v1beta1/" + sa + "default/token", Inferred, legacy, read},
		{"/latest/meta-data/", Inferred, noServer + ": it is another cloud's path", read},
		{"instance/nothing", Inferred, noServer, read},
		{"nothing/", Inferred, noServer, read},
		{"/nothing", Inferred, noServer, read},
		{sa + "default/nothing", Inferred, noServer, read},
		{sa + "DEFAULT/email", Inferred, noServer + ": names are compared exactly", read},
		{sa + "other@other-project.iam.gserviceaccount.com/", Inferred, others, read},
		{sa + "other@other-project.iam.gserviceaccount.com/email", Inferred, others, read},
		{sa + "other@other-project.iam.gserviceaccount.com/token", Inferred, others, read},
		{sa + "other@other-project.iam.gserviceaccount.com/identity?audience={audience}", Inferred, others, read},
		{sa + "other@other-project.iam.gserviceaccount.com/?recursive=true", Inferred, others, read},
		{sa + "{email}x/token", Inferred, others, read},
		{sa + "x{email}/token", Inferred, others, read},
	} {
		cases = append(cases, Case{Name: "absent/" + a.path, Truth: a.truth, Source: a.source, AsOf: a.asOf, check: expect(get(a.path), status(404))})
	}
	return cases
}
