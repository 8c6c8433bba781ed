package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errNoPods = errors.New("the pods of node node-1 have not been read yet")

func newServer(change func(*Options)) *Server {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector())
	o := Options{Gatherer: registry, InstanceID: "42", Ready: func() error { return nil }}
	if change != nil {
		change(&o)
	}
	return New(o)
}

func TestServer_DistinguishesLivenessFromReadiness(t *testing.T) {
	const notRedirected = "not redirected: pods of the node's network; they find the server at http://192.0.2.1:8988\n"
	for _, test := range []struct {
		method, path string
		ready        error
		nodeURL      string
		status       int
		body         string
	}{
		{"GET", "/healthz", errNoPods, "", 200, "ok\n"},
		{"GET", "/readyz", errNoPods, "", 503, errNoPods.Error() + "\n"},
		{"GET", "/readyz", nil, "", 200, "ok, instance 42\n"},
		{"GET", "/readyz", nil, "http://192.0.2.1:8988", 200, "ok, instance 42\n" + notRedirected},
		{"HEAD", "/readyz", nil, "", 200, "ok, instance 42\n"}, // net/http drops the body
		{"POST", "/readyz", nil, "", 405, ""},
		{"GET", "/computeMetadata/v1/", nil, "", 404, "404 page not found\n"},
	} {
		w := httptest.NewRecorder()
		newServer(func(o *Options) { o.Ready, o.NodeURL = func() error { return test.ready }, test.nodeURL }).
			ServeHTTP(w, httptest.NewRequest(test.method, test.path, nil))
		if w.Code != test.status || w.Body.String() != test.body {
			t.Errorf("%s %s: %d %q, want %d %q", test.method, test.path, w.Code, w.Body, test.status, test.body)
		}
	}
	w := httptest.NewRecorder()
	newServer(nil).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 || !strings.Contains(w.Body.String(), "go_goroutines") {
		t.Errorf("/metrics: %d, %d bytes", w.Code, w.Body.Len())
	}
}

// The readiness probe of one version may ask the server of another, so names and
// values of the JSON form are fixed.
func TestReadiness_HasAMachineReadableForm(t *testing.T) {
	for _, test := range []struct {
		ready   error
		nodeURL string
		status  int
		body    string
	}{
		{nil, "", 200, `{"ready":true,"instanceID":"42"}`},
		{nil, "http://192.0.2.1:8988", 200, `{"ready":true,"instanceID":"42","nodeURL":"http://192.0.2.1:8988"}`},
		{errNoPods, "", 503, `{"ready":false,"reason":"the pods of node node-1 have not been read yet","instanceID":"42"}`},
	} {
		w := httptest.NewRecorder()
		newServer(func(o *Options) { o.Ready, o.NodeURL = func() error { return test.ready }, test.nodeURL }).
			ServeHTTP(w, httptest.NewRequest("GET", "/readyz?format=json", nil))
		if w.Code != test.status || w.Body.String() != test.body+"\n" || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%d %q (%s), want %d %q", w.Code, w.Body, w.Header().Get("Content-Type"), test.status, test.body)
		}
	}
}

func TestReadReadiness_ReturnsWhatTheServerReports(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ready := errNoPods
	server := newServer(func(o *Options) {
		o.Listener, o.NodeURL, o.Ready = listener, "http://192.0.2.1:8988", func() error { return ready }
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- server.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	address := listener.Addr().String()

	_, err = ReadReadiness(t.Context(), client, address)
	if want := "GET http://" + address + "/readyz?format=json: 503 Service Unavailable: " + errNoPods.Error(); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	ready = nil
	got, err := ReadReadiness(t.Context(), client, address)
	if want := (Readiness{Ready: true, InstanceID: "42", NodeURL: "http://192.0.2.1:8988"}); err != nil || !cmp.Equal(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestReadReadiness_RefusesAnswersOfOtherServers(t *testing.T) {
	for name, test := range map[string]struct {
		status     int
		body, want string
	}{
		"text":         {200, "ok, instance 42\n", "invalid character"},
		"other JSON":   {200, `{"status": "UP"}`, `the answer is not of an admin server: {"status": "UP"}`},
		"empty":        {200, "", "unexpected end of JSON input"},
		"not ready":    {200, `{"ready": false, "instanceID": "42"}`, "is not of an admin server"},
		"an error":     {404, "404 page not found\n", "404 Not Found: 404 page not found"},
		"a JSON error": {500, `{"message": "broken"}`, `500 Internal Server Error: {"message": "broken"}`},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				_, _ = w.Write([]byte(test.body))
			}))
			defer server.Close()
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			_, err := ReadReadiness(t.Context(), client, strings.TrimPrefix(server.URL, "http://"))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}
