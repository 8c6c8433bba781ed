package daemon

import (
	"net/netip"
	"testing"

	"gke-metadata-emulator/internal/config"
)

func TestStandalone_AnswersOnlyThisMachineAndPrivateNetworks(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1": true, "::1": true, "10.1.2.3": true, "172.17.0.2": true, "192.168.1.7": true, "169.254.1.1": true, "fd00::1": true, "fe80::1": true,
		"8.8.8.8": false, "172.32.0.1": false, "100.64.0.1": false, "2001:db8::1": false, "0.0.0.0": false,
	} {
		if got := nearby(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is answered: %t, want %t", address, got, want)
		}
	}
}

func TestStandalone_ReadsFilesBeforeAnythingStarts(t *testing.T) {
	s := config.NewStandalone()
	s.Listen = config.Listen{Address: "127.0.0.1:0", Admin: "127.0.0.1:0"}
	s.Project.AttributesFile = file(t, "instance:\n  attributes:\n    a: [b]\n")
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	flagError(t, Standalone(t.Context(), s, Overrides{}, t.Output(), nil), "attributes-file", "line 3: the value of a is not a string")
	s.Identities.File = "/nonexistent/list.yaml"
	flagError(t, Standalone(t.Context(), s, Overrides{}, t.Output(), nil), "identities", s.Identities.File)
}
