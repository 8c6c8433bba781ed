package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/credential"
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

// handing returns the settings of a daemon that hands over its tokens.
func handing(t *testing.T) *config.Serve {
	t.Helper()
	s := federation()
	s.Handover.File, s.Handover.KeyFile = filepath.Join(memory(t), "tokens"), file(t, strings.Repeat("k", handover.MinKey))
	return s
}

func TestServe_RefusesAnUnusableHandover(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(*testing.T, *config.Serve)
		flag  string
		text  string
	}{
		{"a folder on a disk", func(t *testing.T, s *config.Serve) { s.Handover.File = filepath.Join(t.TempDir(), "tokens") }, "handover-file", "is not on a tmpfs"},
		{"a folder that is missing", func(_ *testing.T, s *config.Serve) { s.Handover.File = "/nonexistent/tokens" }, "handover-file", "give one on a tmpfs, like /run/"},
		{"a key that is missing", func(_ *testing.T, s *config.Serve) { s.Handover.KeyFile = "/nonexistent/key" }, "handover-key-file", "/nonexistent/key"},
		{"a short key", func(t *testing.T, s *config.Serve) { s.Handover.KeyFile = file(t, secret[:20]) }, "handover-key-file", "holds 20 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := withoutRouting(handing(t))
			test.spoil(t, s)
			if err := s.Complete(); err != nil {
				t.Fatal(err)
			}
			err := Serve(t.Context(), s, t.Output(), nil)
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
	if err := Cleanup(&config.Cleanup{Interface: "nosuch0", HandoverFile: path}); err == nil || strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}

// The file is sealed for its owner, so a change of the format voids all tokens.
func TestHandoverOwner_IsTheNodeAndTheCredential(t *testing.T) {
	s := handing(t)
	if got, want := (serve{s}).handoverOwner(nil)(), `"node-1" e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	s.Node.Name = "node-2"
	node := serve{s}.handoverOwner(nil)()
	source, err := credential.Read(file(t, userCredential), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := (serve{s}).handoverOwner(source)(); got == node || !strings.HasPrefix(got, `"node-2" `) {
		t.Errorf("with a credential: %s, without: %s", got, node)
	}
}
