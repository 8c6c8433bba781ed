package daemon

import (
	"strings"
	"testing"
)

func TestCleanup_NamesAMissingInterface(t *testing.T) {
	if err := (&Cleanup{Interface: "nosuch0"}).Run(); err == nil || !strings.Contains(err.Error(), "nosuch0") {
		t.Errorf("error %v", err)
	}
}
