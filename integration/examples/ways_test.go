package examples

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/integration/cluster"
	"gke-metadata-emulator/integration/cluster/deployment"
)

// way is a page of docs/ that leads from an empty project to a token.
type way struct {
	name, project, number string
	// through are the principals whose tokens lead to the GSA's.
	through func(federated string) Chain
}

var waysIn = []way{
	{"federation", FreshProjectID, FreshProjectNumber, func(federated string) Chain {
		return Chain{KSA: "way-federation/app", Through: []string{federated}}
	}},
	{"impersonation", BareProjectID, BareProjectNumber, func(string) Chain {
		return Chain{Through: []string{"user:" + Operator}}
	}},
}

func (w way) page() string      { return "docs/" + w.name + ".md" }
func (w way) namespace() string { return "way-" + w.name }
func (w way) gsa() string       { return "uploader@" + w.project + ".iam.gserviceaccount.com" }

func (w way) variables() map[string]string {
	return map[string]string{"PROJECT_ID": w.project, "POOL": "way-" + w.name, "NAMESPACE": w.namespace(), "KSA": "app", "GSA_NAME": "uploader"}
}

// ways follows both pages in projects in which there is nothing, until an object is uploaded.
func ways(t *testing.T, s *Fixture) {
	if !s.Gcloud() {
		t.Skip("this machine has no gcloud, with which the pages set everything up")
	}
	files := map[string]string{}
	for _, program := range []string{"curl", "sh"} {
		with, err := cluster.WithLibraries(t.Context(), lookPath(t, program))
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(files, with)
	}
	s.Load(t,
		cluster.Image{Name: "docker.io/curlimages/curl:8.16.0", Files: files, Entrypoint: []string{lookPath(t, "curl")}},
		cluster.Image{Name: "localhost/gke-metadata-emulator/curl:1", Files: files})
	for _, w := range waysIn {
		t.Run(w.name, func(t *testing.T) { s.follow(t, w) })
	}
}

func (s *Fixture) follow(t *testing.T, w way) {
	checkout := t.TempDir() // the reader edits its deploy/
	if err := os.CopyFS(filepath.Join(checkout, "deploy"), os.DirFS(filepath.Join(sourceRoot(t), "deploy"))); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(sourceRoot(t), w.page()))
	if err != nil {
		t.Fatal(err)
	}
	s.Namespace(t, w.namespace())
	t.Cleanup(func() { s.removeDaemons(t, filepath.Join(checkout, "deploy", w.name)) })

	start := time.Now()
	output, err := s.runText(t, w.page(), checkout, string(content), w.variables())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d commands took %s, to a pod with a token", commands(t, string(content)), time.Since(start).Round(100*time.Millisecond))
	if !strings.Contains(output, "\n200\n") {
		t.Errorf("the output of the commands has no line 200:\n%s", output)
	}
	s.upload(t, w)

	if _, err := s.runSkipped(t, w.page(), checkout, string(content), "kubectl delete -k", map[string]string{
		"PROJECT_ID": w.project, "POOL": w.variables()["POOL"], "GSA": w.gsa(),
	}); err != nil {
		t.Error(err)
	}
	s.tryGcloud(t, "iam workload-identity-pools create way-"+w.name+" --location=global --project="+w.project, "", "ALREADY_EXISTS")
}

// upload lets a pod of the KSA upload an object, and checks the principals that Google saw.
func (s *Fixture) upload(t *testing.T, w way) {
	t.Helper()
	bucket := "way-" + w.name
	s.tryGcloud(t, "storage buckets create gs://"+bucket+" --project="+w.project, "", "")
	s.tryGcloud(t, "storage buckets add-iam-policy-binding gs://"+bucket+" --role=roles/storage.objectUser --member=serviceAccount:"+w.gsa(), "", "")
	pod, err := os.ReadFile("testdata/pod.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pod.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(pod), "my-bucket", bucket)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Kubectl(t, "apply", "--namespace="+w.namespace(), "--filename="+file)
	s.Kubectl(t, "wait", "--namespace="+w.namespace(), "pod/app", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=2m")
	want := w.through(strings.ReplaceAll(poolsPrefix, ProjectNumber, w.number) + "way-" + w.name + "/subject/system:serviceaccount:" + w.namespace() + ":app")
	want.Principal = "serviceAccount:" + w.gsa()
	uploads := s.Uploads(bucket)
	if len(uploads) != 1 || uploads[0].Object != "hello" {
		t.Fatalf("the bucket has %v, want hello", uploads)
	}
	t.Logf("hello: %s", uploads[0].Chain)
	if err := uploads[0].Chain.equal(want); err != nil {
		t.Error(err)
	}
}

// removeDaemons removes an overlay if it is still there, and the traces on the nodes.
func (s *Fixture) removeDaemons(t *testing.T, overlay string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	defer cancel()
	if t.Failed() {
		logs, err := s.run(ctx, "kubectl", "logs", "--namespace="+deployment.Name, "daemonset/"+deployment.Name, "--all-pods", "--tail=40")
		t.Logf("the daemons' logs: %s (%v)", logs, err)
	}
	if _, err := s.run(ctx, "kubectl", "delete", "--ignore-not-found", "-k", overlay); err != nil {
		t.Error(err)
	}
	for _, n := range s.Cluster.Nodes {
		if _, err := n.Run(ctx, s.Program, "cleanup"); err != nil {
			t.Error(err)
		}
	}
}

// commands counts the commands that a reader of a page runs until its section "Remove".
func commands(t *testing.T, content string) int {
	t.Helper()
	content, _, _ = strings.Cut(content, "\n## Remove\n")
	blocks, err := Blocks(content)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, b := range blocks {
		continued := false
		for line := range strings.Lines(b.Text) {
			line = strings.TrimSuffix(line, "\n")
			if !continued && (assignment.FindString(line) == "" || strings.Contains(line, "$(")) {
				count++
			}
			continued = strings.HasSuffix(line, `\`)
		}
	}
	return count
}

// The pages say how many commands lead to a token.
func TestWays_CountTheirCommands(t *testing.T) {
	for _, w := range waysIn {
		content, err := os.ReadFile(filepath.Join(sourceRoot(t), w.page()))
		if err != nil {
			t.Fatal(err)
		}
		if says := fmt.Sprintf("%d commands", commands(t, string(content))); !strings.Contains(string(content), says) {
			t.Errorf("%s has %s, and does not say so", w.page(), says)
		}
	}
}
