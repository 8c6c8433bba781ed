package daemon

import (
	"strings"
	"testing"

	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/podtest"
)

func TestCleanup_NamesAMissingInterface(t *testing.T) {
	podtest.NewNetwork(t) // what Cleanup removes is not this machine's
	if err := Cleanup(&config.Cleanup{Interface: "nosuch0", BPFFS: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "nosuch0") {
		t.Errorf("error %v", err)
	}
}
