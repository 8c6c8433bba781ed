package examples

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"gke-metadata-emulator/integration/cluster/deployment"
)

// A network that does not let the daemon reach Google is named by the answer to the pod, and
// by the log with the complete error. The environment that the answer names mends it.
func (s *shop) unreachable(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(refusing.Close)
	for _, test := range []struct {
		name, variable, value string // of the environment; the proxy and its CA otherwise
		anchor                string
		says, remedy, logged  string
	}{
		{"proxy with its own CA", "SSL_CERT_FILE", "", "untrusted-certificate",
			"STS could not be reached: sts.googleapis.com: the certificate is signed by an unknown authority (issuer ",
			"If a proxy inspects TLS connections to sts.googleapis.com, give its CA to the daemon with SSL_CERT_FILE.",
			"x509: certificate signed by unknown authority"},
		{"proxy that refuses to connect", "HTTPS_PROXY", refusing.URL, "proxy",
			"STS could not be reached: sts.googleapis.com: the proxy does not connect to it",
			"Check HTTPS_PROXY and NO_PROXY of the daemon, and that the proxy allows sts.googleapis.com.",
			"403 Forbidden"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := s.newWorkload(t, federation)
			blocked := slices.DeleteFunc(s.environment(), func(v string) bool { return strings.HasPrefix(v, test.variable+"=") })
			if test.value != "" {
				blocked = append(blocked, test.variable+"="+test.value)
			}
			w.daemon = s.serve(t, blocked, "--workload-identity-provider="+deployment.Provider)
			message := w.untilRefused(t, test.anchor)
			for _, want := range []string{"503 ", test.says, test.remedy} {
				if !strings.Contains(message, want) {
					t.Errorf("%s\nwant %s", message, want)
				}
			}
			retry(t, "the log has the complete error", func() error { return contains(w.daemon.logged(t), test.logged) })
			w.daemon = s.serve(t, s.environment(), "--workload-identity-provider="+deployment.Provider)
			w.untilToken(t)
		})
	}
}
