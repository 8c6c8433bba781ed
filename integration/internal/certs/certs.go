package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// Lifetime is longer than any test and any demo runs. The keys are never stored.
const Lifetime = 30 * 24 * time.Hour

// New makes a certificate for names, which can begin with a wildcard. It also returns,
// in PEM, the CA that a client has to trust. The CA's key is forgotten at once, and the
// CA is valid only below the names, so a client that trusts it takes no risk.
func New(names ...string) (certificate tls.Certificate, authority []byte, err error) {
	fail := func(err error) (tls.Certificate, []byte, error) {
		return tls.Certificate{}, nil, fmt.Errorf("certificate for %s: %w", names[0], err)
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:                big.NewInt(1),
		Subject:                     pkix.Name{CommonName: "CA of the stand-ins for Google"},
		NotBefore:                   now.Add(-time.Hour), // clocks differ
		NotAfter:                    now.Add(Lifetime),
		KeyUsage:                    x509.KeyUsageCertSign,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLenZero:              true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         domains(names),
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &authorityKey.PublicKey, authorityKey)
	if err != nil {
		return fail(err)
	}
	parent, err := x509.ParseCertificate(signed) // with the key identifier
	if err != nil {
		return fail(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: names[0]},
		NotBefore:    parent.NotBefore,
		NotAfter:     parent.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     names,
	}, parent, &key.PublicKey, authorityKey)
	if err != nil {
		return fail(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, text, nil
}

// domains are the names without wildcards, as name constraints have them: a constraint
// permits the name and its subdomains (RFC 5280, section 4.2.1.10).
func domains(names []string) []string {
	var permitted []string
	for _, name := range names {
		if domain := strings.TrimPrefix(name, "*."); !slices.Contains(permitted, domain) {
			permitted = append(permitted, domain)
		}
	}
	return permitted
}
