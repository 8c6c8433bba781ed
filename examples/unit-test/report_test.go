package report_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	report "gke-metadata-emulator/examples/unit-test"
	"gke-metadata-emulator/metadatatest"
)

const writer = "writer@my-project.iam.gserviceaccount.com"

// storage is a service that accepts only the writer, and stores the upload.
func storage(t *testing.T, srv *metadatatest.Server) (url string, stored func() string) {
	var content string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		principal, err := srv.Principal(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		switch body, _ := io.ReadAll(r.Body); {
		case err != nil:
			w.WriteHeader(http.StatusUnauthorized)
		case principal.Name != "serviceAccount:"+writer:
			w.WriteHeader(http.StatusForbidden)
		default:
			content = string(body)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, func() string { return content }
}

func TestUpload_StoresReport(t *testing.T) {
	srv := metadatatest.New(t, metadatatest.Link("default/default", writer))
	url, stored := storage(t, srv)
	if err := report.Upload(t.Context(), url, strings.NewReader("all is well")); err != nil || stored() != "all is well" {
		t.Errorf("stored %q, %v", stored(), err)
	}
}

func TestUpload_FailsWithOtherAccount(t *testing.T) {
	srv := metadatatest.New(t, metadatatest.Link("default/default", "reader@my-project.iam.gserviceaccount.com"))
	url, stored := storage(t, srv)
	if err := report.Upload(t.Context(), url, strings.NewReader("?")); err == nil || !strings.Contains(err.Error(), "403") || stored() != "" {
		t.Errorf("stored %q, %v; want 403", stored(), err)
	}
}

func TestUpload_ErrorNamesMissingBinding(t *testing.T) {
	srv := metadatatest.New(t, metadatatest.Link("default/default", writer))
	srv.Unbind("default/default", writer)
	url, _ := storage(t, srv)
	if err := report.Upload(t.Context(), url, strings.NewReader("?")); err == nil || !strings.Contains(err.Error(), "roles/iam.workloadIdentityUser") {
		t.Errorf("error %v, want one that names the missing role", err)
	}
}

func TestUpload_RetriesMetadataServer(t *testing.T) {
	srv := metadatatest.New(t, metadatatest.Link("default/default", writer))
	srv.FailNext(2, http.StatusServiceUnavailable)
	url, stored := storage(t, srv)
	if err := report.Upload(t.Context(), url, strings.NewReader("late")); err != nil || stored() != "late" {
		t.Errorf("stored %q, %v", stored(), err)
	}
	if n := srv.TokenRequests(); n != 3 {
		t.Errorf("%d requests for a token, want 3: two fail, the third succeeds", n)
	}
}
