package integration

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"gke-metadata-emulator/internal/config"
)

// lagging puts a daemon behind a path to the API server on which watches lag.
func lagging(t testing.TB, lag time.Duration) func(*config.Serve) {
	t.Helper()
	transport, err := rest.TransportFor(&rest.Config{TLSClientConfig: cluster.Config.TLSClientConfig})
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(cluster.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1,
		ModifyResponse: func(r *http.Response) error {
			if r.Request.URL.Query().Get("watch") != "" {
				r.Body = &lateBody{r.Body, lag}
			}
			return nil
		},
	}
	server := httptest.NewTLSServer(proxy) // clientcmd sends no token without TLS
	t.Cleanup(server.CloseClientConnections)
	return func(s *config.Serve) {
		config, err := clientcmd.LoadFromFile(s.Kubernetes.Kubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range config.Clusters {
			c.Server = server.URL
			c.CertificateAuthorityData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		}
		s.Kubernetes.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
		if err := clientcmd.WriteToFile(*config, s.Kubernetes.Kubeconfig); err != nil {
			t.Fatal(err)
		}
	}
}

// lateBody delays what it reads.
type lateBody struct {
	io.ReadCloser
	lag time.Duration
}

func (b *lateBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	time.Sleep(b.lag) // the lag itself: nothing waits for it to have passed
	return n, err
}
