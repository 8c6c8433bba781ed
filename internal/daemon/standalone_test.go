package daemon

import (
	"context"
	"net/netip"
	"testing"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/tokens"
)

// refusing refuses each token with an error that callers share.
type refusing struct {
	tokens.Source
	err *tokens.Error
}

func (r refusing) AccessToken(context.Context, identity.Workload, tokens.Scopes) (tokens.Token, error) {
	return tokens.Token{}, r.err
}

func (r refusing) IDToken(context.Context, identity.Workload, tokens.IDTokenRequest) (tokens.Token, error) {
	return tokens.Token{}, r.err
}

func TestStandalone_SaysWhereAnAccountIsNamed(t *testing.T) {
	for kind, want := range map[tokens.Kind]string{tokens.NotLinked: "GKE's text" + linkRemedy, tokens.Denied: "GKE's text"} {
		source := withoutCluster{refusing{err: &tokens.Error{Kind: kind, Message: "GKE's text"}}}
		for range 2 { // the shared error is not changed
			if _, err := source.AccessToken(t.Context(), identity.Workload{}, nil); err.Error() != want {
				t.Errorf("access token: %q, want %q", err, want)
			}
			if _, err := source.IDToken(t.Context(), identity.Workload{}, tokens.IDTokenRequest{}); err.Error() != want {
				t.Errorf("ID token: %q, want %q", err, want)
			}
		}
	}
}

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
