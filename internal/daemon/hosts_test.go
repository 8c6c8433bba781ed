package daemon

import (
	"strings"
	"testing"

	"gke-metadata-emulator/internal/config"
)

func TestHostGuard_AnswersOnlyToNamesThatNoWebPageCanHave(t *testing.T) {
	for host, want := range map[string]bool{
		"": true, "127.0.0.1": true, "::1": true, "169.254.169.254": true, "8.8.8.8": true, "localhost": true, "LOCALHOST.": true,
		"metadata": true, "metadata.google.internal": true, "metadata.google.internal.": true, "Metadata.Google.INTERNAL": true,
		"emulator": true, "host.docker.internal": true, "a.localhost": true, "A.Localhost": true,
		"mds.default.svc": true, "mds.default.svc.cluster.local": true, "MDS.Default.SVC.Cluster.Local": true, "printer.local": true, "mds.test": true, "mds.home.arpa": true,
		"evil.example": false, "evil.example.": false, "Evil.Example": false, "127.0.0.1.evil.example": false, "metadata.google.internal.evil.example": false,
		"internal.evil": false, "evillocal.com": false, "x.evilsvc": false, "evil.arpa": false, "evilhome.arpa": false, "local.evil": false, "evil.local.": true, "evil.local..": false,
	} {
		if err := (hostGuard{}).check(host); (err == nil) != want {
			t.Errorf("%q: %v", host, err)
		}
	}
}

// A user who follows the remedy literally is answered, by the old names too.
func TestHostGuard_RemedyWorks(t *testing.T) {
	s := config.NewStandalone()
	for _, host := range []string{"mds.proxy_net", "Metadata.Example.COM.", "a.b"} {
		err := hostGuard{s.AllowedHosts()}.check(host)
		if err == nil {
			t.Fatalf("%s is answered", host)
		}
		_, value, _ := strings.Cut(err.Error(), "--allow-host=")
		s = config.NewStandalone()
		s.AllowHost = value
		if err := s.Complete(); err != nil {
			t.Fatal(err)
		}
	}
	for _, host := range []string{"mds.proxy_net", "MDS.proxy_net", "metadata.example.com", "a.b."} {
		if err := (hostGuard{s.AllowedHosts()}).check(host); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if err := (hostGuard{s.AllowedHosts()}).check("x.a.b"); err == nil {
		t.Error("a name below an allowed one is answered")
	}
}

func TestHostGuard_RemedyHasNoTextForAShell(t *testing.T) {
	for _, host := range []string{"$(id).example", "a b.example", "a.example;id", strings.Repeat("a.", 200) + "b"} {
		if err := (hostGuard{}).check(host); err == nil || strings.Contains(err.Error(), "allow-host") {
			t.Errorf("%q: %v", host, err)
		}
	}
}
