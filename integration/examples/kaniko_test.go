package examples

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"gke-metadata-emulator/integration/cluster"
	"gke-metadata-emulator/integration/cluster/deployment"
	"gke-metadata-emulator/integration/registry"
)

const (
	kanikoReadme    = "examples/kaniko/README.md"
	kanikoNamespace = "kaniko"
	kanikoBucket    = "contexts"
	kanikoLocation  = "europe-west1"
	kanikoImage     = "gcr.io/kaniko-project/executor:v1.24.0" // as the manifest has it
	builtWithin     = 5 * time.Minute
)

// builds are the Jobs of examples/kaniko.
type builds struct {
	*testing.T
	s    *Fixture
	real bool // the executor is kaniko's own
}

// kaniko follows the README of examples/kaniko, and then runs the same job a hundred times
// concurrently. The manifest is exactly the user's: the image that it names is on the nodes,
// with kaniko's executor or with a program that makes the same calls.
func kaniko(t *testing.T, s *Fixture) {
	if !s.Gcloud() {
		t.Skip("this machine has no gcloud, with which the README sets everything up")
	}
	b := &builds{T: t, s: s}
	b.loadExecutor()
	s.Install(t, "federation")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), removedWithin)
		defer cancel()
		if _, err := s.run(ctx, "kubectl", "delete", "namespace", kanikoNamespace, "--ignore-not-found"); err != nil {
			t.Error(err)
		}
	})
	start := time.Now()
	output := s.RunBlocks(t, kanikoReadme, map[string]string{
		"PROJECT_ID": ProjectID, "OTHER_PROJECT_ID": OtherProjectID, "BUCKET": kanikoBucket, "LOCATION": kanikoLocation,
		"POOL": deploymentPool,
	})
	t.Logf("the README's commands took %s, to the proof", time.Since(start).Round(100*time.Millisecond))
	for _, project := range []struct{ id, ksa string }{{ProjectID, "builder"}, {OtherProjectID, "builder-other"}} {
		digest := b.pulled(imageOf(project.id, "hello"))
		if !b.real && !strings.Contains(output, digest) {
			t.Errorf("the Job of %s did not log that it pushed %s:\n%s", project.id, digest, output)
		}
		b.pushedBy(project.id, "hello", project.ksa, "builder@"+project.id+".iam.gserviceaccount.com")
	}
	for _, part := range []struct {
		name string
		run  func(*builds)
	}{{"denied", (*builds).denied}, {"a hundred at once", (*builds).hundred}} {
		t.Run(part.name, func(t *testing.T) { part.run(&builds{t, s, b.real}) })
	}
}

func (b *builds) loadExecutor() {
	program := os.Getenv("KANIKO_EXECUTOR")
	image := cluster.Image{Name: kanikoImage, Entrypoint: []string{"/kaniko/executor"}}
	if b.real = program != ""; b.real {
		// Its own image has Docker's credential helper and a configuration for it; with an
		// empty one it has Google's keychain.
		config := filepath.Join(b.TempDir(), "config.json")
		if err := os.WriteFile(config, []byte("{}"), 0o644); err != nil {
			b.Fatal(err)
		}
		image.Files = map[string]string{"/kaniko/executor": program, "/kaniko/.docker/config.json": config}
		b.Logf("the executor is %s", program)
	} else {
		b.Log("kaniko's own executor is not run: KANIKO_EXECUTOR=/path of a static one is not set; instead one of ours, with the same libraries")
		own, err := b.s.Cluster.BuildStatic(b.Context(), "integration/examples", "./executor", "executor")
		if err != nil {
			b.Fatal(err)
		}
		image.Files = map[string]string{"/kaniko/executor": own}
	}
	b.s.Load(b, image)
}

func imageOf(project, image string) string {
	return kanikoLocation + "-docker.pkg.dev/" + project + "/images/" + image + ":1"
}

// pulled returns the digest of an image after a look at all of it: it is for this
// platform and has the context's file.
func (b *builds) pulled(reference string) string {
	b.Helper()
	target, err := name.NewTag(reference)
	if err != nil {
		b.Fatal(err)
	}
	token, err := os.ReadFile(b.s.tokenFile())
	if err != nil {
		b.Fatal(err)
	}
	image, err := remote.Image(target, remote.WithContext(b.Context()), remote.WithTransport(handled{b.s.Registry}),
		remote.WithAuth(&authn.Basic{Username: "oauth2accesstoken", Password: string(token)}))
	if err != nil {
		b.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		b.Fatal(err)
	}
	if config.OS != "linux" || config.Architecture != runtime.GOARCH {
		b.Errorf("%s is for %s/%s, want linux/%s", reference, config.OS, config.Architecture, runtime.GOARCH)
	}
	files := mutate.Extract(image)
	defer files.Close()
	var content bytes.Buffer
	if _, err := content.ReadFrom(files); err != nil { // which verifies the layers' digests
		b.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(sourceRoot(b.T), "examples/kaniko/context/hello.txt"))
	if err != nil {
		b.Fatal(err)
	}
	if !bytes.Contains(content.Bytes(), want) || !bytes.Contains(content.Bytes(), []byte("hello.txt")) {
		b.Errorf("%s has no hello.txt of the context", reference)
	}
	digest, err := image.Digest()
	if err != nil {
		b.Fatal(err)
	}
	return digest.String()
}

// handled is a client's transport to a handler in this process.
type handled struct{ handler http.Handler }

func (h handled) RoundTrip(r *http.Request) (*http.Response, error) {
	inside := r.Clone(r.Context())
	inside.Host = r.URL.Host
	answer := httptest.NewRecorder()
	h.handler.ServeHTTP(answer, inside)
	response := answer.Result()
	response.Request = r
	return response, nil
}

// pushes are the manifests that were written for an image, and their writers.
func (b *builds) pushes(project, image string) []registry.Record {
	var found []registry.Record
	path := "/v2/" + project + "/images/" + image + "/"
	for _, r := range b.s.Registry.Records() {
		if r.Method == http.MethodPut && strings.HasPrefix(r.Path, path+"manifests/") && r.Status == http.StatusCreated {
			found = append(found, r)
		}
	}
	return found
}

// pushedBy checks the principal that read the context and pushed: only the KSA, as its GSA.
func (b *builds) pushedBy(project, image, ksa, gsa string) {
	b.Helper()
	pushes := b.pushes(project, image)
	if len(pushes) != 1 {
		b.Errorf("%s of %s was pushed %d times", image, project, len(pushes))
	}
	for _, r := range pushes {
		chain := Chain{KSA: r.KSA, Through: r.Through, Principal: r.Principal}
		if err := chain.Federated(kanikoNamespace, ksa, gsa); err != nil {
			b.Error(err)
		}
		b.Logf("Artifact Registry saw: %s pushed %s to %s", chain, image, r.Repository)
	}
	reads := 0
	for _, r := range b.s.Storage.Records() {
		if r.Bucket == kanikoBucket && r.Object == "context.tar.gz" && r.Method == http.MethodGet && r.Principal == "serviceAccount:"+gsa && r.Status == http.StatusOK {
			reads++
			if err := (Chain{KSA: r.KSA, Through: r.Through, Principal: r.Principal}).Federated(kanikoNamespace, ksa, gsa); err != nil {
				b.Error(err)
			}
		}
	}
	if reads == 0 {
		b.Errorf("%s has not read the context", gsa)
	}
}

// manifest is the example's, filled in as the README does it.
func (b *builds) manifest(ksa, job, gsa, destination string) (corev1.ServiceAccount, batchv1.Job) {
	b.Helper()
	content, err := os.ReadFile(filepath.Join(sourceRoot(b.T), "examples/kaniko/kaniko.yaml"))
	if err != nil {
		b.Fatal(err)
	}
	filled := strings.NewReplacer("KSA", ksa, "JOB", job, "GSA", gsa, "BUCKET", kanikoBucket, "DESTINATION", destination).Replace(string(content))
	first, second, _ := strings.Cut(filled, "\n---\n")
	var made corev1.ServiceAccount
	var asked batchv1.Job
	if err := yaml.UnmarshalStrict([]byte(first), &made); err != nil {
		b.Fatal(err)
	}
	if err := yaml.UnmarshalStrict([]byte(second), &asked); err != nil {
		b.Fatal(err)
	}
	if spec := asked.Spec.Template.Spec; len(spec.Volumes) > 0 || len(spec.Containers[0].Env) > 0 || len(spec.Containers[0].EnvFrom) > 0 {
		b.Error("the Job has a volume or an environment")
	}
	return made, asked
}

// account makes a KSA and its GSA, which may read the context, and have a role on the
// repository.
func (b *builds) account(ksa, role string) string {
	b.Helper()
	gsa := ksa + "@" + ProjectID + ".iam.gserviceaccount.com"
	b.s.Cloud.Bind(gsa, "roles/iam.workloadIdentityUser", deployment.Principal(kanikoNamespace, ksa))
	b.s.Cloud.Bind("buckets/"+kanikoBucket, "roles/storage.objectViewer", "serviceAccount:"+gsa)
	b.s.Cloud.Bind("projects/"+ProjectID+"/locations/"+kanikoLocation+"/repositories/images", role, "serviceAccount:"+gsa)
	account, _ := b.manifest(ksa, "none", gsa, "none")
	if _, err := b.s.Cluster.Client.CoreV1().ServiceAccounts(kanikoNamespace).Create(b.Context(), &account, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	return gsa
}

func (b *builds) create(job batchv1.Job) {
	b.Helper()
	if _, err := b.s.Cluster.Client.BatchV1().Jobs(kanikoNamespace).Create(b.Context(), &job, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
}

// ended waits for a Job.
func (b *builds) ended(ctx context.Context, job string) (ended *batchv1.Job) {
	b.Helper()
	err := cluster.Await(ctx, b.s.Cluster.Client.BatchV1().Jobs(kanikoNamespace), job, func(j *batchv1.Job) error {
		if ended = j; j.Status.CompletionTime == nil && !slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
			return c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue
		}) {
			return fmt.Errorf("%d pods run, %d have failed", j.Status.Active, j.Status.Failed)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return ended
}

// denied: a GSA that may only pull, with Google's own words in the pod's log.
func (b *builds) denied() {
	gsa := b.account("reader", "roles/artifactregistry.reader")
	_, job := b.manifest("reader", "reader", gsa, imageOf(ProjectID, "denied"))
	job.Spec.BackoffLimit = new(int32) // once is enough
	b.create(job)
	ctx, cancel := context.WithTimeoutCause(b.Context(), builtWithin, fmt.Errorf("not within %s", builtWithin))
	defer cancel()
	if status := b.ended(ctx, "reader").Status; status.Failed != 1 {
		b.Errorf("%d pods have failed, %d not", status.Failed, status.Succeeded)
	}
	output := b.s.Kubectl(b, "logs", "--namespace="+kanikoNamespace, "job/reader")
	const want = `DENIED: Permission "artifactregistry.repositories.uploadArtifacts" denied on resource ` +
		`"projects/` + ProjectID + `/locations/` + kanikoLocation + `/repositories/images" (or it may not exist)`
	if !strings.Contains(output, want) {
		b.Errorf("the log does not contain %s:\n%s", want, output)
	}
	b.Logf("the pod's log: %s", strings.TrimSpace(output))
	if pushes := b.pushes(ProjectID, "denied"); len(pushes) > 0 {
		b.Errorf("it was pushed all the same: %+v", pushes)
	}
}
