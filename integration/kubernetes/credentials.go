package kubernetes

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"

	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// The names of the files that the API server is started with.
const (
	certificateFile    = "tls.crt"
	certificateKeyFile = "tls.key"
	signingKeyFile     = "service-accounts.key"
	tokensFile         = "tokens.csv"
	kubeconfigFile     = "admin.kubeconfig"
)

// makeCredentials writes the API server's certificate and keys, and makes the
// administrator's configuration and client.
func (c *Cluster) makeCredentials() error {
	certificate, err := c.makeCertificate()
	if err != nil {
		return fmt.Errorf("certificate of the API server: %w", err)
	}
	// RSA, as GKE's: its KSA tokens are RS256.
	signing, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("key for KSA tokens: %w", err)
	}
	if err := c.writePEM(signingKeyFile, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(signing)); err != nil {
		return err
	}
	token := rand.Text()
	if err := os.WriteFile(c.file(tokensFile), []byte(token+`,admin,admin,"system:masters"`+"\n"), 0o600); err != nil {
		return err
	}

	c.Config = c.config(certificate, token)
	c.Config.QPS = -1
	if c.Client, err = clientset.NewForConfig(c.Config); err != nil {
		return err
	}
	return writeKubeconfig(c.Config, c.file(kubeconfigFile))
}

func (c *Cluster) config(certificate []byte, token string) *rest.Config {
	return &rest.Config{
		Host:            fmt.Sprintf("https://127.0.0.1:%d", c.port.number),
		BearerToken:     token,
		TLSClientConfig: rest.TLSClientConfig{CAData: certificate},
	}
}

// makeCertificate returns the API server's certificate, which is its own CA.
func (c *Cluster) makeCertificate() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "kube-apiserver"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := c.writePEM(certificateKeyFile, "PRIVATE KEY", private); err != nil {
		return nil, err
	}
	if err := c.writePEM(certificateFile, "CERTIFICATE", certificate); err != nil {
		return nil, err
	}
	return os.ReadFile(c.file(certificateFile))
}

func (c *Cluster) writePEM(name, kind string, content []byte) error {
	return os.WriteFile(c.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600)
}
