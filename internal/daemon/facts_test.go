package daemon

import (
	"errors"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"gke-metadata-emulator/server"
)

var gceID = regexp.MustCompile(`^[1-9][0-9]{0,19}$`)

func TestFactsFollowFromTheSettings(t *testing.T) {
	s := federation()
	s.ClusterLocation = "us-east1-c"
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	got := s.facts("node-1")
	id := got.InstanceID
	got.InstanceID = ""
	want := server.Facts{
		ProjectID: "prod-project", NumericProjectID: "998877665544", WorkloadPool: "prod-project.svc.id.goog", UniverseDomain: "googleapis.com",
		Hostname: "node-1.us-east1-c.c.prod-project.internal", Zone: "us-east1-c", ClusterName: "kubernetes", ClusterLocation: "us-east1-c",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if other := s.facts("node-2").InstanceID; !gceID.MatchString(id) || other == id {
		t.Errorf("instance ID %q, and %q of another node", id, other)
	}
	s.ID = "example.com:prod-project"
	if got, want := s.facts("node-1").Hostname, "node-1.us-east1-c.c.prod-project.example.com.internal"; got != want {
		t.Errorf("host name %s, want %s", got, want)
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

func TestTheClustersUIDIsAskedForUntilItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: "the-uid"}})
		failures := 3
		client.PrependReactor("get", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) {
			failures--
			return failures >= 0, nil, errors.New("no API server")
		})
		uid := newClusterUID(client, prometheus.NewRegistry(), discard)
		if got := uid.get(); got != "" {
			t.Errorf("UID %q before it was asked for", got)
		}
		start := time.Now()
		if err := uid.run(t.Context()); err != nil {
			t.Error(err)
		}
		if got := uid.get(); got != "the-uid" {
			t.Errorf("UID %q", got)
		}
		if got := testutil.ToFloat64(uid.failed); got != 3 {
			t.Errorf("%v failures are counted, want 3", got)
		}
		// 0.5 s, 1 s and 2 s, each with up to half of it again.
		if took := time.Since(start); took < 3500*time.Millisecond || took > 5250*time.Millisecond {
			t.Errorf("three failures cost %s", took)
		}
	})
}
