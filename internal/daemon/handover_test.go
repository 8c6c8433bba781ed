package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gke-metadata-emulator/internal/handover"
)

// memory is a folder of the test on a tmpfs.
func memory(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/dev/shm", "daemon-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

// handing is settings of a daemon that hands over its tokens.
func handing(t *testing.T) *Serve {
	t.Helper()
	s := federation()
	s.HandoverFile, s.HandoverKeyFile = filepath.Join(memory(t), "tokens"), file(t, strings.Repeat("k", handover.MinKey))
	return s
}

func TestServe_RefusesAnUnusableHandover(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(*testing.T, *Serve)
		flag  string
		text  string
	}{
		{"a folder on a disk", func(t *testing.T, s *Serve) { s.HandoverFile = filepath.Join(t.TempDir(), "tokens") }, "handover-file", "is not on a tmpfs"},
		{"a folder that is missing", func(_ *testing.T, s *Serve) { s.HandoverFile = "/nonexistent/tokens" }, "handover-file", "give one on a tmpfs, like /run/"},
		{"a key that is missing", func(_ *testing.T, s *Serve) { s.HandoverKeyFile = "/nonexistent/key" }, "handover-key-file", "/nonexistent/key"},
		{"a short key", func(t *testing.T, s *Serve) { s.HandoverKeyFile = file(t, secret[:20]) }, "handover-key-file", "holds 20 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := aside(handing(t))
			test.spoil(t, s)
			if err := s.Complete(); err != nil {
				t.Fatal(err)
			}
			err := s.Run(t.Context(), t.Output())
			flagError(t, err, test.flag, test.text)
			if strings.Contains(err.Error(), secret[:20]) {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
}

func TestCleanup_RemovesHandoverFileAndFolder(t *testing.T) {
	folder := filepath.Join(memory(t), "gke-metadata-emulator")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "handover")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Other steps that fail do not stop it.
	if err := (&Cleanup{Interface: "nosuch0", HandoverFile: path}).Run(); err == nil || strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}

// The file is sealed for its owner, so a change of the format voids all tokens.
func TestHandoverOwner_IsTheNodeAndTheCredential(t *testing.T) {
	s := handing(t)
	if got, want := s.handoverOwner(), `"node-1" e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	s.NodeName = "node-2"
	node := s.handoverOwner()
	s.Credentials, s.SourceCredentials = Impersonation, file(t, userCredential)
	if got := s.handoverOwner(); got == node || !strings.HasPrefix(got, `"node-2" `) {
		t.Errorf("with a credential: %s, without: %s", got, node)
	}
}
