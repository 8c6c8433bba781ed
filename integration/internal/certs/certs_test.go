package certs

import (
	"crypto/x509"
	"testing"
)

func TestCertificate_IsValidForItsNamesOnly(t *testing.T) {
	certificate, authority, err := New("storage.example.com", "*.storage.example.com")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		t.Fatalf("no certificate in %s", authority)
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, valid := range map[string]bool{"storage.example.com": true, "bucket.storage.example.com": true, "www.example.com": false} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); (err == nil) != valid {
			t.Errorf("%s: %v, want valid: %v", name, err, valid)
		}
	}
}
