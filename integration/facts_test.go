package integration

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gke-metadata-emulator/integration/kubernetes"
	"gke-metadata-emulator/internal/config"
	"gke-metadata-emulator/internal/facts"
)

// Facts from the API server are available to a pod that requests them while the daemon
// starts.
func TestFacts_OfClusterAndNode(t *testing.T) {
	system, err := cluster.Client.CoreV1().Namespaces().Get(t.Context(), metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var id string
	for range 2 { // starts of the daemon
		n := startNode(t)
		app := n.pod(t, "127.0.1.1")
		for path, want := range map[string]string{
			"instance/zone":                   "projects/" + projectNumber + "/zones/" + nodeZone,
			"instance/hostname":               n.name + "." + nodeZone + ".c." + projectID + ".internal",
			"instance/attributes/cluster-uid": facts.ClusterUID(string(system.UID)),
		} {
			if got := app.value(path); got != want {
				t.Errorf("%s: %q, want %q", path, got, want)
			}
		}
		now := app.value("instance/id")
		if id != "" && now != id {
			t.Errorf("the ID was %s and is %s", id, now)
		}
		id = now
		n.stop()
	}

	unlabelled := startNode(t, func(s *config.Serve) {
		s.Node.Name += "-unlabelled"
		cluster.Node(t, s.Node.Name, nil)
	})
	if got, want := unlabelled.pod(t, "127.0.1.1").value("instance/zone"), "projects/"+projectNumber+"/zones/europe-west1-a"; got != want {
		t.Errorf("zone of a node without label: %q, want %q", got, want)
	}
	given := startNode(t, func(s *config.Serve) { s.Project.Zone = "us-east1-c" })
	if got, want := given.pod(t, "127.0.1.1").value("instance/zone"), "projects/"+projectNumber+"/zones/us-east1-c"; got != want {
		t.Errorf("zone that was given: %q, want %q", got, want)
	}
}

// The attributes file is reloaded, and requests that wait for a change are woken.
func TestFacts_AttributesFileIsReloaded(t *testing.T) {
	file := writeFile(t, "attributes.yaml", []byte("instance:\n  attributes: {team: blue}\n"))
	write := func(document string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ns := cluster.Namespace(t, "team-")
	n := startNode(t, func(s *config.Serve) { s.Project.AttributesFile = file }).ready(t)
	cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: "app", KSA: "default", Node: n.name, IP: "127.0.1.1"})
	app := n.pod(t, "127.0.1.1")
	first := app.get("instance/attributes/team")
	if first.body != "blue" {
		t.Fatalf("%d %q", first.status, first.body)
	}

	write("instance:\n  attributes:\n    team: [red]\n")
	eventually(t, deadline, "the bad file is refused", func() error {
		if !strings.Contains(n.log.String(), "line 3: the value of team is not a string") {
			return errors.New("not in the log")
		}
		return nil
	})
	if got := app.value("instance/attributes/team"); got != "blue" {
		t.Errorf("after a bad file: %q", got)
	}

	changed := make(chan reply, 1)
	go func() {
		r, err := app.try("instance/attributes/team?wait_for_change=true&timeout_sec=60&last_etag=" + first.header.Get("ETag"))
		if err != nil {
			r.body = err.Error()
		}
		changed <- r
	}()
	write("instance:\n  attributes: {team: green}\n")
	start := time.Now()
	if got := <-changed; got.body != "green" {
		t.Errorf("%d %q after %s", got.status, got.body, time.Since(start))
	}
}
