package server

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"gke-metadata-emulator/identity"
)

func TestMetrics_CountResponsesByEndpointAndCode(t *testing.T) {
	w := linked()
	r := serve(t, w)
	for _, request := range []string{
		get(accounts + "/default/token"), get(accounts + "/" + testGSA + "/token?scopes=x"), get(accounts + "/other@demo-project.iam.gserviceaccount.com/token"),
		bare("GET /"), get(root + "/instance"), get(accounts + "/" + testGSA + "/?recursive=true"),
		get(root + "/project/project-id"), bare("HEAD "+root+"/project/project-id", "Metadata-Flavor: Google"), bare("GET " + root + "/project/project-id"),
		get("/unknown/1"), get("/unknown/2"), bare("DELETE /"),
	} {
		r.do(t, request)
	}
	want := `
# HELP gme_http_requests_total Responses, by endpoint (a key of the metadata tree, directory, or none) and status code.
# TYPE gme_http_requests_total counter
gme_http_requests_total{code="200",endpoint="directory"} 2
gme_http_requests_total{code="200",endpoint="instance/service-accounts/{account}/token"} 2
gme_http_requests_total{code="200",endpoint="project/project-id"} 2
gme_http_requests_total{code="301",endpoint="directory"} 1
gme_http_requests_total{code="403",endpoint="none"} 1
gme_http_requests_total{code="404",endpoint="instance/service-accounts/{account}/token"} 1
gme_http_requests_total{code="404",endpoint="none"} 2
gme_http_requests_total{code="405",endpoint="none"} 1
gme_http_requests_total{code="503",endpoint="instance/service-accounts/{account}/token"} 1
`
	w.onPod = failWith(identityError(identity.NotReady))
	r.do(t, get(accounts+"/default/token")).expect(t, 503)
	if err := r.stop(); err != nil { // a request can be counted after its response is sent
		t.Fatal(err)
	}
	if err := testutil.GatherAndCompare(r.registry, strings.NewReader(want), "gme_http_requests_total"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(r.registry, "gme_http_request_seconds"); err != nil || n != 4 {
		t.Errorf("%d endpoints are timed, want 4 (%v)", n, err)
	}
}

func TestMetrics_LabelsAreAClosedSet(t *testing.T) {
	closed := []string{"directory", "none"}
	for _, e := range New(Options{}).endpoints() {
		closed = append(closed, e.path)
	}
	r := serve(t, linked())
	for _, path := range []string{"/a", "/b/", root + "/x", accounts + "/a@b.c/email", accounts + "/a@b.c", accounts + "/a/b/c/", accounts + "/default/z", accounts + "/" + testGSA, "//", "/%00"} {
		r.do(t, get(path))
		r.do(t, bare("BREW "+path))
		r.do(t, bare("GET "+path))
	}
	if err := r.stop(); err != nil { // a request can be counted after its response is sent
		t.Fatal(err)
	}
	for label, values := range labels(t, r.registry) {
		for _, value := range values {
			if label == "endpoint" && !slices.Contains(closed, value) || label == "code" && len(value) != 3 {
				t.Errorf("label %s=%q", label, value)
			}
		}
	}
}

// labels are all values of each label.
func labels(t *testing.T, registry *prometheus.Registry) map[string][]string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				all[label.GetName()] = append(all[label.GetName()], label.GetValue())
			}
		}
	}
	return all
}
