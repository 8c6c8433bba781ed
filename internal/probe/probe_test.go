package probe

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gke-metadata-emulator/internal/admin"
)

// metadataAt returns the URL of a server that answers as a metadata server does.
func metadataAt(t *testing.T, status int, instanceID string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/computeMetadata/v1/instance/id" || r.Header.Get("Metadata-Flavor") != "Google" {
			status = http.StatusForbidden
		}
		w.Header().Set("Server", "Metadata Server for VM")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(instanceID))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// adminServer returns the URL of an admin server of the instance 42.
func adminServer(t *testing.T, nodeURL string, ready error) string {
	t.Helper()
	s := httptest.NewServer(admin.New(admin.Options{Gatherer: prometheus.NewRegistry(), InstanceID: "42", NodeURL: nodeURL, Ready: func() error { return ready }}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestRun_ReportsWhatIsMissing(t *testing.T) {
	ready, notReady := adminServer(t, "", nil), adminServer(t, "", errors.New("no pods yet"))
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(hangs.Close)
	ours := metadataAt(t, 200, "42")
	withNodeURL := func(url string) string { return adminServer(t, url, nil) }
	for name, test := range map[string]struct{ admin, target, want string }{
		"ready":                      {ready, ours, ""},
		"not ready":                  {notReady, ours, "the daemon is not ready: GET " + notReady + "/readyz?format=json: 503 Service Unavailable: no pods yet"},
		"no daemon":                  {"http://127.0.0.1:1", ours, "the daemon is not ready: "},
		"no server":                  {ready, "http://127.0.0.1:1", "the metadata address does not answer: "},
		"timeout":                    {ready, hangs.URL, "the metadata address does not answer: "},
		"refused":                    {ready, metadataAt(t, 404, "42"), "the metadata address does not answer: "},
		"metadata server of a cloud": {ready, metadataAt(t, 200, "4242"), "is answered by another server (Metadata Server for VM, instance 4242)"},

		"node not redirected":                 {withNodeURL(ours), "http://127.0.0.1:1", ""},
		"node not redirected, no server":      {withNodeURL("http://127.0.0.1:1"), ours, "the metadata address does not answer: "},
		"node not redirected, another server": {withNodeURL(metadataAt(t, 200, "4242")), ours, "is answered by another server"},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Target: test.target, AdminAddress: strings.TrimPrefix(test.admin, "http://"), Timeout: 30 * time.Second}
			if test.target == hangs.URL {
				o.Timeout = 2 * time.Second
			}
			var stdout strings.Builder
			err := Run(t.Context(), o, &stdout)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if err != nil {
				return
			}
			want := "ready: " + ours + " answers\n"
			if test.target != ours {
				want = "ready: " + ours + " answers; " + test.target + " was not requested, as --routing=nftables does not redirect pods of the node's network here\n"
			}
			if stdout.String() != want {
				t.Errorf("output %q, want %q", stdout.String(), want)
			}
		})
	}
}
