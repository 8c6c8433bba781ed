package daemon

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// metadataAt answers as a metadata server would.
func metadataAt(t *testing.T, status int, instanceID string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/computeMetadata/v1/instance/id" || r.Header.Get("Metadata-Flavor") != "Google" {
			status = http.StatusForbidden
		}
		w.Header().Set("Server", "Metadata Server for VM")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(instanceID))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestAProbeSaysWhatIsMissing(t *testing.T) {
	ready := httptest.NewServer(adminHandler(newRegistry(), readyText("42", ""), func() error { return nil }))
	t.Cleanup(ready.Close)
	notReady := httptest.NewServer(adminHandler(newRegistry(), readyText("42", ""), func() error { return wrong("x", "wait", "no pods yet") }))
	t.Cleanup(notReady.Close)
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(hangs.Close)
	ours := metadataAt(t, 200, "42")
	elsewhere := func(server string) string {
		s := httptest.NewServer(adminHandler(newRegistry(), readyText("42", server), func() error { return nil }))
		t.Cleanup(s.Close)
		return s.URL
	}
	for name, test := range map[string]struct{ admin, target, want string }{
		"all is well":         {ready.URL, ours, ""},
		"not ready":           {notReady.URL, ours, "the daemon is not ready: GET " + notReady.URL + "/readyz: 503 Service Unavailable: --x: no pods yet; wait"},
		"no daemon":           {"http://127.0.0.1:1", ours, "the daemon is not ready: "},
		"nothing answers":     {ready.URL, "http://127.0.0.1:1", "the metadata address does not answer: "},
		"it answers too late": {ready.URL, hangs.URL, "the metadata address does not answer: "},
		"it refuses":          {ready.URL, metadataAt(t, 404, "42"), "the metadata address does not answer: "},
		"a cloud behind it":   {ready.URL, metadataAt(t, 200, "4242"), "is answered by another server (Metadata Server for VM, instance 4242)"},

		"the node is left out":                  {elsewhere(ours), "http://127.0.0.1:1", ""},
		"the node is left out, nothing answers": {elsewhere("http://127.0.0.1:1"), ours, "the metadata address does not answer: "},
		"the node is left out, another server":  {elsewhere(metadataAt(t, 200, "4242")), ours, "is answered by another server"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &Probe{Target: test.target, AdminListen: strings.TrimPrefix(test.admin, "http://"), Timeout: 500 * time.Millisecond}
			if err := p.Complete(); err != nil {
				t.Fatal(err)
			}
			var said strings.Builder
			err := p.Run(t.Context(), &said)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if err != nil {
				return
			}
			want := "ready: " + ours + " answers\n"
			if test.target != ours {
				want = "ready: " + ours + " answers; " + test.target + " was not asked, as --routing=nftables does not redirect pods of the node's network here\n"
			}
			if said.String() != want {
				t.Errorf("it says %q, want %q", said.String(), want)
			}
		})
	}
}

func TestAProbesSettingsAreChecked(t *testing.T) {
	right := Probe{Target: "http://169.254.169.254", AdminListen: "127.0.0.1:8989", Timeout: time.Second}
	for flag, change := range map[string]func(*Probe){
		"":             func(*Probe) {},
		"target":       func(p *Probe) { p.Target = "169.254.169.254" },
		"admin-listen": func(p *Probe) { p.AdminListen = "8989" },
		"timeout":      func(p *Probe) { p.Timeout = 0 },
	} {
		p := right
		change(&p)
		err := p.Complete()
		if flag == "" && err != nil || flag != "" && (err == nil || !strings.HasPrefix(err.Error(), "--"+flag+": ")) {
			t.Errorf("--%s: %v", flag, err)
		}
	}
}
