package gcs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"gke-metadata-emulator/integration/internal/certs"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// through is a client that has the proxy and trusts certificates of ca.
func (b *bench) clientWithCA(ca []byte) *http.Client {
	b.t.Helper()
	proxy, err := url.Parse(b.ProxyURL)
	if err != nil {
		b.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if ca != nil && !roots.AppendCertsFromPEM(ca) {
		b.t.Fatal("the CA is not PEM")
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	b.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

func (b *bench) get(client *http.Client, target string) (*http.Response, string, error) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, target, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer ya29.garbage")
	response, err := client.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response, string(text), err
}

func TestProxy_IsCloudStorage(t *testing.T) {
	b := newBench(t, nil)
	client := b.clientWithCA(b.CA)
	for _, target := range []string{"https://storage.googleapis.com/storage/v1/b/x/o", "https://x.storage.googleapis.com/"} {
		response, text, err := b.get(client, target)
		if err != nil || response.StatusCode != http.StatusUnauthorized || b.last().Bucket != "x" {
			t.Errorf("%s: %v %s, record %+v", target, err, text, b.last())
		}
	}
}

func TestProxy_RefusesOtherHosts(t *testing.T) {
	b := newBench(t, nil)
	client := b.clientWithCA(b.CA)
	before := len(b.Records())
	for _, target := range []string{
		"https://oauth2.googleapis.com/", "https://storage.googleapis.com:8443/", "https://evilstorage.googleapis.com/", "https://127.0.0.1/",
	} {
		if _, _, err := b.get(client, target); err == nil || !strings.Contains(err.Error(), "Forbidden") {
			t.Errorf("%s: %v", target, err)
		}
	}
	for _, target := range []string{"http://storage.googleapis.com/", "http://storage.googleapis.com:443/", "http://metadata.google.internal/"} {
		if response, text, err := b.get(client, target); err != nil || response.StatusCode != http.StatusForbidden || !strings.Contains(text, "NO_PROXY") {
			t.Errorf("%s: %v %s", target, err, text)
		}
	}
	if now := len(b.Records()); now != before {
		t.Errorf("%d requests reached the stand-in", now-before)
	}
}

func TestProxy_IsTrustedOnlyWithItsCA(t *testing.T) {
	b := newBench(t, nil)
	_, another, err := certs.New(host)
	if err != nil {
		t.Fatal(err)
	}
	for name, ca := range map[string][]byte{"no CA": nil, "another CA": another} {
		if _, _, err := b.get(b.clientWithCA(ca), "https://storage.googleapis.com/x/y"); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProxy_EndsItsTunnels(t *testing.T) {
	b := newBench(t, nil)
	proxy, err := NewProxy(b.Server, nil)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- proxy.Serve(ctx, listener) }()
	conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		t.Error("the proxy speaks TLS before CONNECT", conn.Close())
	}
	open, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if _, err := io.WriteString(open, "CONNECT storage.googleapis.com:443 HTTP/1.1\r\nHost: storage.googleapis.com:443\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(open, make([]byte, len("HTTP/1.1 200"))); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_ = open.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.Copy(io.Discard, open); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("the tunnel outlives the proxy")
	}
}
