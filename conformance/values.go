package conformance

// valueCases are about keys whose answer is a bare value, without a newline.
func valueCases() []row {
	var cases []row
	for _, v := range []struct {
		key, pattern string
		truth        Truth
		source       string
	}{
		{"project/project-id", `([a-z0-9.-]+:)?[a-z][a-z0-9-]*[a-z0-9]`, Documented, keysDoc},
		{"project/numeric-project-id", `[0-9]+`, Client, "gcloud 528.0.0: core/credentials/gce_cache.py takes any other text for a machine outside of Compute Engine"},
		{"instance/id", `[0-9]{1,20}`, Documented, keysDoc},
		{"instance/hostname", `[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?`, Documented, keysDoc},
		{"instance/name", `[a-z0-9]([a-z0-9.-]*[a-z0-9])?`, Observed, "open-telemetry/opentelemetry-collector-contrib#48876 and #48879 (GKE, June 2026): the name of the node; before, GKE had none"},
		{"instance/zone", `projects/[0-9]+/zones/[a-z0-9-]+`, Client, "Fluent Bit: out_stackdriver/gce_metadata.c requires exactly three slashes"},
		{"instance/attributes/cluster-name", `\S+`, Documented, gkeDoc},
		{"instance/attributes/cluster-location", `[^-\s]+(-[^-\s]+){1,2}`, Client, "OpenTelemetry detectors for Go 1.38: gke.go takes one dash for a region, two for a zone, and fails on any other number"},
		{"instance/attributes/cluster-uid", `[0-9a-f]{64}`, Observed, "elastic/assetbeat, input/k8s/util_test.go: a value of GKE; " + gkeDoc + " has the key"},
		{sa + "default/email", `\S+`, Client, "google-auth-library for Java 1.43 does not trim it"},
		{sa + "{email}/email", `\S+`, Client, "google-auth-library for Java 1.43 does not trim it"},
	} {
		cases = append(cases,
			row{"values/" + v.key, v.truth, v.source, expect(get(v.key), status(200), matching(v.pattern))},
			row{"values/" + v.key + " is " + text, Inferred, "as / of GKE (google-auth-library-ruby#228, 2019)", expect(get(v.key), ok(text))})
	}
	return append(cases,
		row{"values/universe/universe-domain is a bare domain, empty or 404", Client, "cloud.google.com/go/auth 0.24: anything else is an error", universe},
		row{"values/instance/zone has the project's number", Documented, keysDoc, projectZone},
		row{"values/" + sa + "default/aliases ends with a newline", Inferred, "a list has a newline after each line", expect(get(sa+"default/aliases"), ok(text), exactly("default\n"))},
		row{"values/" + sa + "default/scopes are URLs, one per line", Documented, keysDoc,
			expect(get(sa+"default/scopes"), ok(text), matching(`(https://\S+\n)+`))},
	)
}

func universe(s *session) error {
	r := s.send(get("universe/universe-domain"))
	if r.status == 404 {
		return nil
	}
	return s.expect(r, status(200, 404), matching(`([a-z0-9-]+(\.[a-z0-9-]+)+)?`))
}

func projectZone(s *session) error {
	number := s.send(get("project/numeric-project-id"))
	return s.expect(s.send(get("instance/zone")), status(200), func(_ *session, r reply) string {
		return matching(`projects/`+number.body+`/zones/[a-z0-9-]+`)(s, r)
	})
}
