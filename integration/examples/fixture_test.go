package examples

import (
	"context"
	"maps"
	"strings"
	"testing"

	"gke-metadata-emulator/integration/cluster"
)

// fixtureWorks is the minimum that the examples rely on: the commands of a README take
// effect, and only a pod of the KSA that the README linked writes to the bucket.
func fixtureWorks(t *testing.T, s *Fixture) {
	if output := s.Kubectl(t, "get", "nodes", "--output=name"); output != "node/node-1\nnode/node-2\n" {
		t.Errorf("kubectl get nodes: %q", output)
	}
	if !s.Gcloud() {
		t.Skip("this machine has no gcloud, with which the README sets everything up")
	}
	files := map[string]string{}
	for _, program := range []string{"/usr/bin/curl", "/usr/bin/sh"} {
		with, err := cluster.WithLibraries(t.Context(), program)
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(files, with)
	}
	s.Load(t, cluster.Image{Name: "localhost/gke-metadata-emulator/curl:1", Files: files})
	s.Install(t, "federation")
	s.Namespace(t, "stage")
	s.Namespace(t, "elsewhere")
	s.Cloud.CreateBucket(OtherProjectID, "theirs")
	s.RunBlocks(t, "integration/examples/testdata/README.md", map[string]string{"PROJECT_ID": ProjectID, "NAMESPACE": "stage"})
	if output, _ := s.Storage.Object("my-bucket", "context/file"); string(output) != "of the operator\n" {
		t.Errorf("the operator wrote %q", output)
	}
	const gsa = "uploader@" + ProjectID + ".iam.gserviceaccount.com"
	for _, resource := range []string{"buckets/my-bucket", "buckets/theirs", "projects/" + ProjectID + "/locations/europe-west1/repositories/stage-images"} {
		permission := "storage.objects.create"
		if strings.HasPrefix(resource, "projects/") {
			permission = "artifactregistry.repositories.uploadArtifacts"
		}
		if got, want := s.Cloud.Allowed(resource, "serviceAccount:"+gsa, permission), resource != "buckets/theirs"; got != want {
			t.Errorf("%s for the GSA on %s: %t, want %t", permission, resource, got, want)
		}
	}

	s.Kubectl(t, "create", "serviceaccount", "app", "--namespace=elsewhere")
	s.Kubectl(t, "annotate", "serviceaccount", "app", "--namespace=elsewhere", "iam.gke.io/gcp-service-account="+gsa)
	for _, namespace := range []string{"elsewhere", "stage"} {
		s.Kubectl(t, "apply", "--namespace="+namespace, "--filename="+absolute(t, "testdata/pod.yaml"))
	}
	t.Cleanup(func() {
		if t.Failed() {
			output, err := s.run(context.WithoutCancel(t.Context()), "kubectl", "logs", "app", "--namespace=stage")
			t.Logf("the log of the pod: %s (%v)", output, err)
		}
	})
	s.Kubectl(t, "wait", "--namespace=stage", "pod/app", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
	s.Kubectl(t, "wait", "--namespace=elsewhere", "pod/app", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s")
	uploads := s.Uploads("my-bucket")
	written := 0
	for _, u := range uploads {
		t.Logf("%s: %s", u.Object, u.Chain)
		if u.Object != "hello" {
			continue
		}
		written++
		if err := u.Chain.Federated("stage", "app", gsa); err != nil {
			t.Error(err)
		}
	}
	if written != 1 {
		t.Errorf("written %d times, want once, by the pod of stage: %v", written, uploads)
	}
	if output := s.Kubectl(t, "logs", "app", "--namespace=elsewhere"); !strings.Contains(output, "403") {
		t.Errorf("the pod of elsewhere: %s", output)
	}
}
