package registry

import (
	"net/http/httptest"
	"testing"
)

func TestRequestedAccess(t *testing.T) {
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, test := range []struct{ method, path, image, permission string }{
		{"GET", "/v2/demo-project/images/app/manifests/latest", "demo-project/images/app", download},
		{"HEAD", "/v2/demo-project/images/app/manifests/" + digest, "demo-project/images/app", download},
		{"PUT", "/v2/demo-project/images/app/manifests/v1.0_a", "demo-project/images/app", upload},
		{"DELETE", "/v2/demo-project/images/app/manifests/" + digest, "demo-project/images/app", remove},
		{"GET", "/v2/demo-project/images/a/b/c-d/e.f/blobs/" + digest, "demo-project/images/a/b/c-d/e.f", download},
		{"POST", "/v2/demo-project/images/app/blobs/uploads/", "demo-project/images/app", upload},
		{"POST", "/v2/demo-project/images/app/blobs/uploads", "demo-project/images/app", upload},
		{"PATCH", "/v2/demo-project/images/app/blobs/uploads/12", "demo-project/images/app", upload},
		{"PUT", "/v2/demo-project/images/app/blobs/uploads/12", "demo-project/images/app", upload},
		{"DELETE", "/v2/demo-project/images/app/blobs/uploads/12", "demo-project/images/app", upload},
		{"DELETE", "/v2/demo-project/images/app/blobs/" + digest, "demo-project/images/app", remove},
		{"GET", "/v2/demo-project/images/app/tags/list", "demo-project/images/app", download},
		{"GET", "/v2/demo-project/images/blobs/manifests/1", "demo-project/images/blobs", download},
	} {
		got, refused := requestedAccess("europe-west1", httptest.NewRequest(test.method, test.path, nil))
		if refused != nil || got.image != test.image || got.permission != test.permission || got.repository != testName {
			t.Errorf("%s %s: %+v %v, want %s on %s", test.method, test.path, got, refused, test.permission, test.image)
		}
	}
	for _, path := range []string{
		"/", "/v2", "/v2/_catalog", "/v2/demo-project/images/app", "/v2/demo-project/images/app/manifests/", "/v2/demo-project/images/app/referrers/" + digest,
		"/v2/demo-project/images/manifests/1", "/v2/app/manifests/1", "/v2//demo-project/images/app/manifests/1",
		"/v2/demo-project/images/../other/app/manifests/1", "/v2/demo-project/images/app/../../other/app/manifests/1",
		"/v2/demo-project/images/app//manifests/1", "/v2/demo-project/images%2Fapp/manifests/1", "/v2/demo-project/images/app/manifests/a%2Fb",
		"/v2/Demo-project/images/app/manifests/1", "/v2/demo-project/images/App/manifests/1",
	} {
		if got, refused := requestedAccess("europe-west1", httptest.NewRequest("GET", path, nil)); refused == nil {
			t.Errorf("%s was taken for %+v", path, got)
		}
	}
}

func TestLocation(t *testing.T) {
	for host, want := range map[string]string{
		"europe-west1-docker.pkg.dev": "europe-west1", "us-docker.pkg.dev:443": "us", "EUROPE-docker.pkg.dev": "europe",
		"gcr.io": "", "docker.pkg.dev": "", "europe-west1-docker.pkg.dev.example.com": "",
	} {
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.Host = host
		if got, ok := location(r); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q %t, want %q", host, got, ok, want)
		}
	}
}
