package daemon

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gke-metadata-emulator/server"
)

var gceID = regexp.MustCompile(`^[1-9][0-9]{0,19}$`)

func TestFactsFollowFromTheSettings(t *testing.T) {
	s := federation()
	s.ClusterLocation = "us-east1-c"
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	got := s.facts("node-1").get()
	id := got.InstanceID
	got.InstanceID = ""
	want := server.Facts{
		ProjectID: "prod-project", NumericProjectID: "998877665544", WorkloadPool: "prod-project.svc.id.goog", UniverseDomain: "googleapis.com",
		ClusterName: "kubernetes", ClusterLocation: "us-east1-c",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if other := s.facts("node-2").get().InstanceID; !gceID.MatchString(id) || other == id {
		t.Errorf("instance ID %q, and %q of another node", id, other)
	}
}

func TestAZoneThatIsGivenIsAFactAtOnce(t *testing.T) {
	s := federation()
	s.ID, s.Zone = "example.com:prod-project", "us-east1-d"
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	got := s.facts("node-1").get()
	if want := "node-1.us-east1-d.c.prod-project.example.com.internal"; got.Zone != "us-east1-d" || got.Hostname != want {
		t.Errorf("zone %s, host name %s; want %s", got.Zone, got.Hostname, want)
	}
}

func TestAnInstanceIDIsTheSameAtEveryStartAndDiffersByNode(t *testing.T) {
	const known = "7755924606967048490" // agents that keep it would see another machine
	if got := instanceID("prod-project", "kubernetes", "europe-west1", "node-1"); got != known {
		t.Errorf("instance ID %s, want %s", got, known)
	}
	seen := map[string][]string{}
	for _, of := range [][]string{
		{"prod-project", "kubernetes", "europe-west1", "node-1"}, {"prod-project", "kubernetes", "europe-west1", "node-2"},
		{"prod-project", "kubernetes", "europe-west2", "node-1"}, {"prod-project", "other", "europe-west1", "node-1"},
		{"test-project", "kubernetes", "europe-west1", "node-1"}, {"prod-projectkubernetes", "", "europe-west1", "node-1"}, {},
	} {
		id := instanceID(of...)
		if !gceID.MatchString(id) || seen[id] != nil {
			t.Errorf("%q has the ID %s, as %q", of, id, seen[id])
		}
		seen[id] = of
	}
}
