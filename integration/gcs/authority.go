package gcs

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
	"time"
)

// certificateLife is how long a proxy can be used. Its key is never stored.
const certificateLife = 30 * 24 * time.Hour

// newCertificate makes a certificate for Cloud Storage and returns it with the
// CA that a client has to trust, in PEM. The CA's key is forgotten at once, and
// the CA is valid below Cloud Storage's name only, so trusting it harms nobody.
func newCertificate(now time.Time) (tls.Certificate, []byte, error) {
	fail := func(err error) (tls.Certificate, []byte, error) {
		return tls.Certificate{}, nil, fmt.Errorf("gcs: certificate for %s: %w", host, err)
	}
	keyOfCA, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	ca := &x509.Certificate{
		SerialNumber:                big.NewInt(1),
		Subject:                     pkix.Name{CommonName: "CA of a Cloud Storage stand-in"},
		NotBefore:                   now.Add(-time.Hour), // clocks differ
		NotAfter:                    now.Add(certificateLife),
		KeyUsage:                    x509.KeyUsageCertSign,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLenZero:              true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{host},
	}
	signed, err := x509.CreateCertificate(rand.Reader, ca, ca, &keyOfCA.PublicKey, keyOfCA)
	if err != nil {
		return fail(err)
	}
	if ca, err = x509.ParseCertificate(signed); err != nil { // with the key identifier
		return fail(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: host},
		NotBefore:    ca.NotBefore,
		NotAfter:     ca.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{host, "*." + host},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, keyOfCA)
	if err != nil {
		return fail(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, text, nil
}
