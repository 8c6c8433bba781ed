package facts

import (
	"log/slog"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"gke-metadata-emulator/internal/principal"
	"gke-metadata-emulator/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var gceID = regexp.MustCompile(`^[1-9][0-9]{0,19}$`)

// options are those of a node whose cluster and file are not read.
func options() Options {
	return Options{
		ProjectID: "prod-project", DottedProjectID: "prod-project", NumericProjectID: "998877665544",
		Names: principal.Names{GKEPool: "prod-project.svc.id.goog"}, UniverseDomain: "googleapis.com",
		ClusterName: "kubernetes", ClusterLocation: "us-east1-c", Node: "node-1", Zone: "us-east1-c", ZoneFromNode: true,
		Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	}
}

func TestFacts_FollowFromTheOptions(t *testing.T) {
	o := options()
	got := New(o).Get()
	id := got.InstanceID
	got.InstanceID = ""
	want := server.Facts{
		ProjectID: "prod-project", NumericProjectID: "998877665544", Names: principal.Names{GKEPool: "prod-project.svc.id.goog"}, UniverseDomain: "googleapis.com",
		ClusterName: "kubernetes", ClusterLocation: "us-east1-c", NodeName: "node-1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	o.Node = "node-2"
	if other := New(o).Get().InstanceID; !gceID.MatchString(id) || other == id {
		t.Errorf("instance ID %q, and %q of another node", id, other)
	}
}

func TestFacts_HaveAConfiguredZoneAtOnce(t *testing.T) {
	o := options()
	o.DottedProjectID, o.Zone, o.ZoneFromNode = "prod-project.example.com", "us-east1-d", false
	got := New(o).Get()
	if want := "node-1.us-east1-d.c.prod-project.example.com.internal"; got.Zone != "us-east1-d" || got.Hostname != want {
		t.Errorf("zone %s, host name %s; want %s", got.Zone, got.Hostname, want)
	}
}

func TestInstanceID_IsStableAndDiffersByNode(t *testing.T) {
	const known = "7755924606967048490" // agents that store the ID would take a node for a new one
	if got := instanceID("prod-project", "kubernetes", "europe-west1", "node-1"); got != known {
		t.Errorf("instance ID %s, want %s", got, known)
	}
	seen := map[string][]string{}
	for _, parts := range [][]string{
		{"prod-project", "kubernetes", "europe-west1", "node-1"}, {"prod-project", "kubernetes", "europe-west1", "node-2"},
		{"prod-project", "kubernetes", "europe-west2", "node-1"}, {"prod-project", "other", "europe-west1", "node-1"},
		{"test-project", "kubernetes", "europe-west1", "node-1"}, {"prod-projectkubernetes", "", "europe-west1", "node-1"}, {},
	} {
		id := instanceID(parts...)
		if !gceID.MatchString(id) || seen[id] != nil {
			t.Errorf("%q has the ID %s, as %q", parts, id, seen[id])
		}
		seen[id] = parts
	}
}
