package examples

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// browser is a client that uses the proxy and trusts only the CA file.
func (s *Fixture) browser(t *testing.T) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in the CA file")
	}
	proxy, err := url.Parse(s.internet.proxy)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: trusted}, ForceAttemptHTTP2: true, DisableKeepAlives: true,
	}}
}

// Each name leads to its stand-in, which gives an answer that no other one gives.
func TestInternet_RoutesByHost(t *testing.T) {
	s := newFixture(t)
	client := s.browser(t)
	for address, says := range map[string]string{
		"https://storage.googleapis.com/storage/v1/b/none/o":                          "Anonymous caller does not have storage.objects.list",
		"https://storage.googleapis.com/storage/v1/b/none/iam":                        "invalid authentication credentials",
		"https://europe-west1-docker.pkg.dev/v2/":                                     "UNAUTHORIZED",
		"https://us-docker.pkg.dev/v2/":                                               "UNAUTHORIZED",
		"https://oauth2.googleapis.com/tokeninfo?access_token=x":                      "invalid_token",
		"https://www.googleapis.com/oauth2/v3/certs":                                  `"keys"`,
		"https://cloudresourcemanager.googleapis.com/v1/projects/" + ProjectID:        "invalid authentication credentials",
		"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@b.c:x": "405",
		"https://sts.googleapis.com/v1/token":                                         "405",
	} {
		response, err := client.Get(address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if output := response.Status + string(body); err != nil || !strings.Contains(output, says) {
			t.Errorf("%s: %v: %s, want %q", address, err, output, says)
		}
	}
	for _, elsewhere := range []string{"https://example.com/", "http://storage.googleapis.com/", "https://storage.googleapis.com:444/", "https://mars-docker.pkg.dev/v2/"} {
		if response, err := client.Get(elsewhere); err == nil && response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", elsewhere, response.Status)
		}
	}
}

// The CA is invalid for other names, so a client that trusts it takes no risk.
func TestInternet_AuthorityIsValidForItsSitesOnly(t *testing.T) {
	s := newFixture(t)
	leaf := s.internet.identity.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(s.internet.identity.Certificate[0]); err != nil {
			t.Fatal(err)
		}
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(s.internet.authority)
	for name, want := range map[string]bool{"storage.googleapis.com": true, "us-docker.pkg.dev": true, "compute.googleapis.com": false, "example.com": false} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: trusted, DNSName: name}); (err == nil) != want {
			t.Errorf("%s: %v, want trusted: %t", name, err, want)
		}
	}
	issuer, _ := x509.ParseCertificate(decodePEM(t, s.internet.authority))
	if !issuer.PermittedDNSDomainsCritical || len(issuer.PermittedDNSDomains) != len(s.internet.names()) {
		t.Errorf("the CA is for %v", issuer.PermittedDNSDomains)
	}
}
