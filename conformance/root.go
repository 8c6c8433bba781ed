package conformance

// rootCases are about /, with which clients detect a metadata server.
func rootCases() []row {
	const listing = `(0\.1/\n)?computeMetadata/\n` // Compute Engine's has both
	return []row{
		{"root/answered without the flavor header", Client, "cloud.google.com/go/compute/metadata 0.10.0, run: it probes without the header; GKE of 2019 answered 403",
			expect(bare("GET", "/"), status(200), header("Metadata-Flavor", "Google"))},
		{"root/answered with the flavor header", Client, "google-auth for Python 2.48: compute_engine/_metadata.py",
			expect(get("/"), status(200), header("Metadata-Flavor", "Google"))},
		{"root/answered with another flavor", Observed, "google-auth-library-java#282 (Compute Engine, 2019)",
			expect(bare("GET", "/", "Metadata-Flavor: google"), status(200), header("Metadata-Flavor", "Google"))},
		{"root/lists computeMetadata/", Observed, "google-auth-library-ruby#228 (GKE, 2019): 17 bytes",
			expect(get("/"), ok(text), matching(listing))},
		{"root/HEAD has no body", Client, "dregsy#82: it probes with HEAD /",
			headOf("HEAD", "/", status(200), header("Metadata-Flavor", "Google"))},
		{"root/ignores a query", Inferred, "unknown parameters are ignored everywhere",
			expect(bare("GET", "/?x=y"), status(200), matching(listing))},
	}
}

// headerCases are about headers that every answer has.
func headerCases() []row {
	cases := []row{
		{"headers/flavor on a redirect", Client, "gcp-metadata for Node 8.1: every answer without the header is an error",
			expect(get("instance"), status(200, 301, 302, 307, 308), header("Metadata-Flavor", "Google"))},
		{"headers/the flavor header's name can be in lower case", Inferred, "RFC 9110, section 5.1",
			expect(bare("GET", "project/project-id", "metadata-flavor: Google"), status(200))},
		{"headers/the flavor header's name can be in upper case", Inferred, "RFC 9110, section 5.1",
			expect(bare("GET", "project/project-id", "METADATA-FLAVOR: Google"), status(200))},
		{"headers/white space around the flavor is ignored", Inferred, "RFC 9110, section 5.5",
			expect(bare("GET", "project/project-id", "Metadata-Flavor: \t Google \t"), status(200))},
	}
	const node = "gcp-metadata for Node 8.1, run: every answer without the header is an error"
	const errors = "clients take an answer without the header for no metadata server; GKE of 2020 left it out on 403"
	cases = append(cases,
		row{"headers/flavor on 4xx for a request that is not HTTP", Inferred, errors, refusedOrClosed(notHTTP, header("Metadata-Flavor", "Google"))},
		row{"headers/flavor on 4xx for too many headers", Inferred, errors, refusedOrClosed(bare("GET", "/nothing", padding()...), header("Metadata-Flavor", "Google"))})
	for _, answer := range []struct {
		name, request string
		code          int
		truth         Truth
		source        string
	}{
		{"a value", get("project/project-id"), 200, Client, node},
		{"a listing", get("instance/"), 200, Client, node},
		{"a recursive answer", get(sa + "default/?recursive=true"), 200, Client, node},
		{"an access token", get(sa + "default/token"), 200, Client, "gcp-metadata#215 (GKE of 2019 left the header out, and Node's library failed)"},
		{"403 for a missing flavor", bare("GET", "project/project-id"), 403, Inferred, errors},
		{"403 for X-Forwarded-For", get("project/project-id", "X-Forwarded-For: 10.0.0.1"), 403, Inferred, errors},
		{"404", get("instance/nothing"), 404, Inferred, errors},
		{"400", get(sa + "default/token?wait_for_change=true"), 400, Inferred, errors},
	} {
		server := Observed
		if answer.code != 200 {
			server = Inferred
		}
		cases = append(cases,
			row{"headers/flavor on " + answer.name, answer.truth, answer.source, expect(answer.request, status(answer.code), header("Metadata-Flavor", "Google"))},
			row{"headers/server on " + answer.name, server, "google-auth-library-ruby#228 (200 of GKE, 2019); " + queryDoc + " for Compute Engine",
				expect(answer.request, status(answer.code), header("Server", "GKE Metadata Server", "Metadata Server for VM"))})
	}
	return cases
}

// headOf is a request whose answer must have no body.
func headOf(method, path string, expectations ...expectation) check {
	noBody := func(_ *session, r reply) string { return unless(r.body+r.trailing == "", "no body") }
	return func(s *session) error {
		return s.expect(s.sendAndReadToEOF(bare(method, path, flavor, "Connection: close")), append(expectations, noBody)...)
	}
}
