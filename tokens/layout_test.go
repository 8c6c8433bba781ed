package tokens

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"gke-metadata-emulator/identity"
)

// snapshotLayouts holds the layout of the current snapshotVersion.
var snapshotLayouts = map[int]string{
	1: `tokens.snapshotEntry: Cache string; Key string; Workload identity.Workload; LastUse time.Time; PodUID string; Value string; Type string; Expiry time.Time; Lifetime time.Duration; Origin *tokens.origin;
tokens.key: ksa string; gsa string; delegates string; scopes string; id bool; audience string; format string; licenses bool; lifetime int;
tokens.origin: Decision string; GrantedScopes string; Principal string; CredentialID string; GSAUniqueID string;
identity.Workload: Pod identity.Pod; KSA identity.ServiceAccount; GSA string; Delegates string; QuotaProject string; PrincipalEmail bool;
identity.Pod: Namespace string; Name string; UID string; Static bool;
identity.ServiceAccount: Namespace string; Name string; UID string;
key: %q %q %q %q %t %q %q %t %d`,
}

// A snapshot of another layout must not be restored: an engine that does not know a field
// of a key would take two tokens for one.
func TestSnapshot_VersionMatchesLayout(t *testing.T) {
	var layout strings.Builder
	for _, part := range []any{snapshotEntry{}, key{}, origin{}, identity.Workload{}, identity.Pod{}, identity.ServiceAccount{}} {
		fmt.Fprintf(&layout, "%T:", part)
		_, isKey := part.(key) // written by its String
		for field := range reflect.TypeOf(part).Fields() {
			if !field.IsExported() && !isKey || field.Tag.Get("json") == "-" {
				continue
			}
			fmt.Fprintf(&layout, " %s %s;", field.Name, field.Type)
		}
		layout.WriteString("\n")
	}
	layout.WriteString("key: " + keyFormat)
	if got, want := layout.String(), snapshotLayouts[snapshotVersion]; got != want {
		t.Errorf("the layout of snapshots has changed: increase snapshotVersion, and set its layout in this test to\n%s\nThe layout of version %d is\n%s", got, snapshotVersion, want)
	}
}
