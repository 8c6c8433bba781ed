package daemon

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestTheAdminServerTellsLifeFromReadiness(t *testing.T) {
	ready := errors.New("the pods of node node-1 have not been read yet")
	handler := adminHandler(newRegistry(), readyText("42", ""), func() error { return ready })
	ask := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w.Code, w.Body.String()
	}
	for _, test := range []struct {
		method, path string
		ready        error
		status       int
		body         string
	}{
		{"GET", "/healthz", ready, 200, "ok\n"},
		{"GET", "/readyz", ready, 503, ready.Error() + "\n"},
		{"GET", "/readyz", nil, 200, "ok, instance 42\n"},
		{"HEAD", "/readyz", nil, 200, "ok, instance 42\n"}, // net/http cuts the body
		{"POST", "/readyz", nil, 405, ""},
		{"GET", "/computeMetadata/v1/", nil, 404, "404 page not found\n"},
	} {
		ready = test.ready
		if status, body := ask(test.method, test.path); status != test.status || body != test.body {
			t.Errorf("%s %s: %d %q, want %d %q", test.method, test.path, status, body, test.status, test.body)
		}
	}
	if status, body := ask("GET", "/metrics"); status != 200 || !strings.Contains(body, "go_goroutines") {
		t.Errorf("/metrics: %d, %d bytes", status, len(body))
	}
}
