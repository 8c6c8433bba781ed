package clients

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// client is an HTTP client in the sandbox that trusts the stand-ins.
func (s *sandbox) client(t *testing.T, google *google, to string) *http.Client {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(google.ca) {
		t.Fatal("the CA is not PEM")
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext:     func(ctx context.Context, network, _ string) (net.Conn, error) { return s.dial(ctx, network, to) },
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// token requests a token with a scope from the metadata server.
func (s *sandbox) token(t *testing.T, google *google, scope string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://metadata/computeMetadata/v1/instance/service-accounts/default/token?scopes="+scope, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Metadata-Flavor", "Google")
	response, err := s.client(t, google, metadataAddress+":80").Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Token == "" {
		t.Fatalf("%s, %v", response.Status, err)
	}
	return answer.Token
}

// An operation that works without the right token would prove nothing.
func TestSandbox_StandInsRequireTheRightToken(t *testing.T) {
	m := startStandalone(t)
	subject := newSandbox(t, m.podIP, m.address, m.google)
	others := newGoogle(t, m.google.fake, "serviceAccount:other@"+projectID+".iam.gserviceaccount.com")
	foreign := newSandbox(t, m.podIP, m.address, others)
	good, weak := subject.token(t, m.google, cloudPlatform), subject.token(t, m.google, "https://www.googleapis.com/auth/userinfo.email")
	const (
		object   = "https://" + storageHost + "/upload/storage/v1/b/" + bucket + "/o?uploadType=media&name=x"
		exchange = "https://" + registryHost + "/v2/token"
	)
	for name, test := range map[string]struct {
		in         *sandbox
		google     *google
		url        string
		token      string
		want       int
		asPassword bool
	}{
		"object, no token":             {in: subject, google: m.google, url: object, want: 401},
		"object, no such token":        {in: subject, google: m.google, url: object, token: "ya29.garbage", want: 401},
		"object, scope of another API": {in: subject, google: m.google, url: object, token: weak, want: 403},
		"object, another's bucket":     {in: foreign, google: others, url: object, token: good, want: 403},
		"object":                       {in: subject, google: m.google, url: object, token: good, want: 200},
		"image, no token":              {in: subject, google: m.google, url: "https://" + registryHost + "/v2/", want: 401},
		"image, Google's token":        {in: subject, google: m.google, url: "https://" + registryHost + "/v2/", token: good, want: 401}, // to be exchanged
		"image, no password":           {in: subject, google: m.google, url: exchange, want: 401},
		"image, no such token":         {in: subject, google: m.google, url: exchange, token: "ya29.garbage", asPassword: true, want: 401},
		"image, scope of another API":  {in: subject, google: m.google, url: exchange, token: weak, asPassword: true, want: 403},
		"image, another's registry":    {in: foreign, google: others, url: exchange, token: good, asPassword: true, want: 403},
		"image":                        {in: subject, google: m.google, url: exchange, token: good, asPassword: true, want: 200},
	} {
		t.Run(name, func(t *testing.T) {
			method := http.MethodGet
			if test.url == object {
				method = http.MethodPost
			}
			request, err := http.NewRequestWithContext(t.Context(), method, test.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case test.asPassword:
				request.SetBasicAuth("_token", test.token)
			case test.token != "":
				request.Header.Set("Authorization", "Bearer "+test.token)
			}
			response, err := test.in.client(t, test.google, googleAddress+":443").Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != test.want {
				t.Errorf("%s, want %d", response.Status, test.want)
			}
		})
	}
}

// The names of a sandbox are those that it has stand-ins for, and there is no way
// to anything else.
func TestSandbox_ReachesNothingElse(t *testing.T) {
	m := startStandalone(t)
	s := newSandbox(t, m.podIP, m.address, m.google)
	for _, address := range []string{"198.51.100.1:443", "8.8.8.8:53", m.address} {
		conn, err := s.dial(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		if !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("connect to %s: %v", address, err)
		}
	}
	for _, test := range []struct {
		name string
		kind dnsmessage.Type
		code dnsmessage.RCode
		want string
	}{
		{"metadata.google.internal.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, metadataAddress},
		{"metadata.google.internal.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, ""},
		{"Storage.GoogleAPIs.com.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, googleAddress},
		{"metadata.google.internal.default.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError, ""},
		{"example.com.", dnsmessage.TypeA, dnsmessage.RCodeNameError, ""},
	} {
		code, got := s.lookUp(t, test.name, test.kind)
		if code != test.code || got != test.want {
			t.Errorf("%s %s: %s %q", test.name, test.kind, code, got)
		}
	}
	if got := s.dns.strangers(); !slices.Equal(got, []string{"example.com"}) {
		t.Errorf("strangers: %v", got)
	}
}

func (s *sandbox) lookUp(t *testing.T, name string, kind dnsmessage.Type) (dnsmessage.RCode, string) {
	t.Helper()
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	packed, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := s.dial(t.Context(), "udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(packed); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1500)
	n, err := conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	var answer dnsmessage.Message
	if err := answer.Unpack(buffer[:n]); err != nil {
		t.Fatal(err)
	}
	if answer.ID != query.ID || !answer.Response {
		t.Errorf("no answer to the query: %+v", answer.Header)
	}
	address := ""
	for _, a := range answer.Answers {
		address += net.IP(a.Body.(*dnsmessage.AResource).A[:]).String()
	}
	return answer.RCode, address
}

// A client finds what it would find in a pod, and no further hint.
func TestSandbox_LooksLikeAPod(t *testing.T) {
	m := startStandalone(t)
	s := newSession(t, m, installed{path: "/nowhere"})
	t.Setenv("GCE_METADATA_HOST", "127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	environment, err := s.do("/usr/bin/env")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(environment) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch name {
		case "PATH", "LANG", "HOME", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_", "CLOUDSDK_CONFIG", // some are the shell's
			"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE":
		default:
			t.Errorf("the environment has %s", name)
		}
		if name == "HOME" {
			if files, err := os.ReadDir(value); err != nil || len(files) != 0 {
				t.Errorf("the home has %v, %v", files, err)
			}
		}
	}
	files := map[string]string{"/etc/hosts": s.file("hosts"), "/etc/resolv.conf": s.file("resolv.conf")}
	const product = "/sys/class/dmi/id/product_name"
	if exists(product) {
		files[product] = s.file("product_name")
	} else {
		t.Log("this machine has no ", product, " to cover")
	}
	for path, from := range files {
		want, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.do("/bin/cat", path)
		if err != nil || got != strings.TrimSpace(string(want)) {
			t.Errorf("%s: %q, %v", path, got, err)
		}
		if own, err := os.ReadFile(path); err != nil || string(own) == string(want) {
			t.Errorf("%s is covered outside of the client too, %v", path, err)
		}
	}
}

// A failed client's error has its output, without its token.
func TestSandbox_ReportsAFailedClient(t *testing.T) {
	m := startStandalone(t)
	s := newSession(t, m, installed{})
	_, err := s.do("/bin/sh", "-c", "echo the token ya29.abc_-x is bad >&2; exit 3")
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "the token TOKEN is bad") {
		t.Errorf("%v", err)
	}
	p, err := s.start(t, s.env, "/bin/sh", "-c", `read line; echo '{"error": "the token is '$line'"}'`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.ask("none"); err == nil || !strings.Contains(err.Error(), "the token is none") {
		t.Errorf("%v", err)
	}
	if _, err := p.ask("more"); !errors.Is(err, io.EOF) && !errors.Is(err, unix.EPIPE) {
		t.Errorf("after its end: %v", err)
	}
}
