package tokens

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// closedPort returns an address at which no program listens. It is the client's end of a
// connection that lasts until the end of the test, so no program can listen there.
func closedPort(t *testing.T) string {
	t.Helper()
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	defer func() { check(t, listener.Close()) }()
	client := must(net.Dial("tcp", listener.Addr().String()))
	server := must(listener.Accept())
	t.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	return client.LocalAddr().String()
}

// serveTCP lets a function answer the connections of a listener. Connections are closed at
// the end of the test.
func serveTCP(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = connection.Close() })
			answer(connection)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
	return listener.Addr().String()
}

func viaProxy(address string) *http.Transport {
	return &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: address}), OnProxyConnectResponse: CheckProxyResponse}
}

func TestUnreachable_NamesHostAndCause(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshakes that fail
	secure.StartTLS()
	t.Cleanup(secure.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	refusingProxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(refusingProxy.Close)
	trusted := secure.Client().Transport.(*http.Transport).TLSClientConfig
	trusting := func(change func(*tls.Config)) *http.Transport {
		config := trusted.Clone()
		change(config)
		return &http.Transport{TLSClientConfig: config}
	}
	noDNS := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no DNS server") }}

	for _, test := range []struct {
		name      string
		url       string
		transport *http.Transport
		timeout   time.Duration
		text      string // HOST is the host of the URL
		anchor    string
		detail    string
	}{
		{name: "unknown CA", url: secure.URL, text: `could not be reached: HOST: the certificate is signed by an unknown authority (issuer "O=Acme Co")`,
			anchor: "untrusted-certificate", detail: "certificate signed by unknown authority"},
		{name: "certificate of another name", url: secure.URL, transport: trusting(func(c *tls.Config) { c.ServerName = "other.test" }),
			text: "could not be reached: HOST: the certificate is for another name", anchor: "untrusted-certificate", detail: "other.test"},
		{name: "expired certificate", url: secure.URL, transport: trusting(func(c *tls.Config) { c.Time = func() time.Time { return time.Unix(1<<40, 0) } }),
			text: "could not be reached: HOST: the certificate has expired or is not valid yet", anchor: "untrusted-certificate", detail: "expired"},
		{name: "no TLS", url: strings.Replace(plain.URL, "http:", "https:", 1), text: "could not be reached: HOST: the TLS handshake failed", anchor: "untrusted-certificate", detail: "HTTP"},
		{name: "closed port", url: "https://" + closedPort(t), text: "could not be reached: HOST: the connection was refused", anchor: "connection-refused", detail: "connection refused"},
		{name: "unknown name", url: "https://iam.invalid", transport: &http.Transport{DialContext: (&net.Dialer{Resolver: noDNS}).DialContext},
			text: "could not be reached: HOST: the name cannot be resolved", anchor: "name-not-resolved", detail: "lookup iam.invalid"},
		{name: "silent server", url: "http://" + serveTCP(t, func(net.Conn) {}), timeout: time.Millisecond,
			text: "did not answer in time: HOST\n", anchor: "no-answer-in-time"},
		{name: "server that hangs up", url: "http://" + serveTCP(t, func(c net.Conn) { _ = c.Close() }),
			text: "could not be reached: HOST: the connection failed", anchor: "connection-failed"},
		{name: "proxy that refuses", url: "https://iam.invalid", transport: viaProxy(refusingProxy.Listener.Addr().String()),
			text: "could not be reached: HOST: the proxy does not connect to it", anchor: "proxy", detail: "403 Forbidden"},
		{name: "proxy that is down", url: "https://iam.invalid", transport: viaProxy(closedPort(t)),
			text: "could not be reached: HOST: the proxy does not connect to it", anchor: "proxy", detail: "connection refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.transport == nil {
				test.transport = &http.Transport{}
			}
			t.Cleanup(test.transport.CloseIdleConnections)
			ctx := t.Context()
			if test.timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, test.timeout)
				defer cancel()
			}
			x := &exchange{Federation: Federation{Provider: testProvider, STSEndpoint: test.url}, client: &http.Client{Transport: test.transport}, metrics: newMetrics(prometheus.NewRegistry())}
			_, err := x.exchangeToken(ctx, linked, DefaultScopes(), NewToken("secret", time.Time{}))
			host := must(url.Parse(test.url)).Host
			e := wantError(t, err, Unavailable, "STS "+strings.Replace(test.text, "HOST", host, 1))
			if got := anchorOf(t, e); got != test.anchor {
				t.Errorf("anchor %s, want %s", got, test.anchor)
			}
			if want := fmt.Sprintf("Post %q: ", test.url+"/v1/token"); !strings.HasPrefix(e.Detail, want) || !strings.Contains(e.Detail, test.detail) || strings.Contains(e.Detail, "secret") {
				t.Errorf("detail %s", e.Detail)
			}
		})
	}
}

func TestUnreachable_CauseWithoutURLIsUnknown(t *testing.T) {
	for _, err := range []error{errors.New("secret"), context.Canceled, &url.Error{Op: "Post", URL: "https://iam.invalid", Err: context.Canceled}} {
		if e := unreachable("test", "IAM", err); e.Message != "Unable to test; IAM could not be reached" || e.Detail != "" {
			t.Errorf("%v: message %q, detail %q", err, e.Message, e.Detail)
		}
	}
}
