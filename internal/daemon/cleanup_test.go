package daemon

import (
	"strings"
	"testing"

	"gke-metadata-emulator/internal/config"
)

func TestCleanup_NamesAMissingInterface(t *testing.T) {
	if err := Cleanup(&config.Cleanup{Interface: "nosuch0"}); err == nil || !strings.Contains(err.Error(), "nosuch0") {
		t.Errorf("error %v", err)
	}
}
