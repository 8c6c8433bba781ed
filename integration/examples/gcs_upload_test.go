package examples

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/integration/cluster/deployment"
	"gke-metadata-emulator/integration/gcs"
)

const (
	uploadReadme    = "examples/gcs-upload/README.md"
	uploadNamespace = "gcs-upload"
	uploadKSA       = "uploader"
	largeObject     = 64 << 20
	saidWithin      = 2 * time.Minute // by a pod, from its start
)

// gcsUpload follows the README of examples/gcs-upload in both credential modes, and checks
// the requests that Cloud Storage received.
func gcsUpload(t *testing.T, s *Fixture) {
	if !s.Gcloud() {
		t.Skip("this machine has no gcloud, with which the README sets everything up")
	}
	start := time.Now()
	s.Load(t, goImage(t, s), pythonImage(t, s))
	t.Logf("both images were made and loaded in %s", time.Since(start).Round(100*time.Millisecond))
	for _, mode := range []uploadMode{
		{
			name:   "federation",
			chain:  func(c Chain, gsa, ksa string) error { return c.Federated(uploadNamespace, ksa, gsa) },
			denied: "iam.serviceAccounts.getAccessToken",
		},
		{
			name:   "impersonation",
			chain:  func(c Chain, gsa, _ string) error { return c.Impersonated(gsa) },
			denied: deployment.Principal(uploadNamespace, "stranger"), // the binding that is missing
		},
	} {
		t.Run(mode.name, func(t *testing.T) { (&upload{t: t, s: s, mode: mode}).run() })
	}
}

// uploadMode is the part of the test that depends on the product's credentials.
type uploadMode struct {
	name   string
	chain  func(c Chain, gsa, ksa string) error // error unless Google sees the right chain
	denied string                               // is in the refusal of a KSA that is not trusted
}

type upload struct {
	t    *testing.T
	s    *Fixture
	mode uploadMode
}

func (u *upload) bucket() string { return "uploads-" + u.mode.name }

func (u *upload) gsa(ksa string) string {
	return ksa + "-" + u.mode.name + "@" + ProjectID + ".iam.gserviceaccount.com"
}

func (u *upload) variables() map[string]string {
	return map[string]string{
		"PROJECT_ID": ProjectID, "BUCKET": u.bucket(),
		"GSA_NAME": uploadKSA + "-" + u.mode.name, "GSA": u.gsa(uploadKSA), "POOL": deploymentPool,
	}
}

func (u *upload) run() {
	t := u.t
	u.s.Install(t, u.mode.name)
	seen, signed := len(u.s.Storage.Records()), u.s.Google.Counters()[fakegoogle.MethodSignBlob]
	start := time.Now()
	output := u.s.RunBlocks(t, uploadReadme, u.variables())
	t.Logf("the README's commands took %s, to the proof", time.Since(start).Round(100*time.Millisecond))
	t.Cleanup(func() { u.removeNamespace() })
	if rounds := strings.Count(output, "round done"); rounds < 2 {
		t.Errorf("%d rounds are in the logs that the README shows, want one of each program:\n%s", rounds, output)
	}

	for _, program := range []string{"go", "python"} {
		t.Run(program, func(t *testing.T) {
			pod := u.pod(t, "gcs-upload-"+program)
			for size, least := range map[int]int{1 << 10: 1, largeObject: 5} {
				u.checkObject(t, pod, fmt.Sprintf("%s/%s/%d", program, pod, size), size, least)
			}
		})
	}
	u.checkPrincipals(u.s.Storage.Records()[seen:])
	if now := u.s.Google.Counters()[fakegoogle.MethodSignBlob]; now-signed < 4 {
		t.Errorf("IAM signed %d times, want once for each of four URLs", now-signed)
	}
	u.checkOthers()
	u.remove()
}

// pod is the name of a Deployment's only pod.
func (u *upload) pod(t *testing.T, app string) string {
	t.Helper()
	pods, err := u.s.Cluster.Client.CoreV1().Pods(uploadNamespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("%s has %d pods, want 1: %v", app, len(pods.Items), err)
	}
	spec := pods.Items[0].Spec
	for _, c := range spec.Containers {
		if len(c.Env) > 0 || len(c.EnvFrom) > 0 {
			t.Errorf("%s has an environment", app)
		}
	}
	for _, v := range spec.Volumes {
		if v.Secret != nil || v.ConfigMap != nil || v.HostPath != nil {
			t.Errorf("%s has a volume %s", app, v.Name)
		}
	}
	return pods.Items[0].Name
}

// checkObject compares the object in Cloud Storage with the pod's log. The object is
// rewritten each minute, so the log line may come later.
func (u *upload) checkObject(t *testing.T, pod, name string, size, least int) {
	t.Helper()
	content, there := u.s.Storage.Object(u.bucket(), name)
	if !there || len(content) != size {
		t.Errorf("%s has %d bytes, want %d", name, len(content), size)
		return
	}
	u.says(t, pod, fmt.Sprintf("sha256=%x", sha256.Sum256(content)))
	writes, reads := 0, map[bool]int{} // by whether the URL was signed
	for _, r := range u.s.Storage.Records() {
		switch {
		case r.Bucket != u.bucket() || r.Object != name || r.Status != http.StatusOK && r.Status != http.StatusPermanentRedirect:
		case r.Method == http.MethodGet:
			reads[r.Signed]++
		default:
			writes++
		}
	}
	if writes < least || reads[true] == 0 || reads[false] == 0 {
		t.Errorf("%s: %d requests to write it, want %d or more; %d read it, and %d by signed URL", name, writes, least, reads[false], reads[true])
	}
}

// checkPrincipals checks the callers that used the bucket: always the GSA, through the
// right others; a signed URL is the GSA's without any.
func (u *upload) checkPrincipals(records []gcs.Record) {
	t := u.t
	chains := map[string]int{}
	for _, r := range records {
		if r.Bucket != u.bucket() {
			continue
		}
		chain := Chain{KSA: r.KSA, Through: r.Through, Principal: r.Principal}
		switch {
		case r.Principal == "user:"+Operator: // gcloud, by the README
			continue
		case r.Signed:
			if r.Principal != "serviceAccount:"+u.gsa(uploadKSA) {
				t.Errorf("a signed URL is of %s", r.Principal)
			}
			chains["signed URL of "+r.Principal]++
			continue
		}
		if err := u.mode.chain(chain, u.gsa(uploadKSA), uploadKSA); err != nil {
			t.Errorf("%s %s: %v", r.Method, r.Object, err)
		}
		chains[chain.String()]++
	}
	for _, chain := range slices.Sorted(maps.Keys(chains)) {
		t.Logf("Cloud Storage saw in %d requests: %s", chains[chain], chain)
	}
	if len(chains) != 2 {
		t.Errorf("%d kinds of principals, want one with tokens and one with signed URLs", len(chains))
	}
}

// checkOthers runs the same programs as other KSAs: one that IAM does not trust,
// and one that is another GSA, without a role on the bucket.
func (u *upload) checkOthers() {
	t := u.t
	u.s.Cloud.Bind(u.gsa("visitor"), "roles/iam.workloadIdentityUser", deployment.Principal(uploadNamespace, "visitor"))
	for _, other := range []struct{ ksa, gsa, want string }{
		{"stranger", u.gsa(uploadKSA), u.mode.denied},
		{"visitor", u.gsa("visitor"), u.gsa("visitor") + " does not have storage.objects.create access to the Google Cloud Storage object. " +
			"Permission 'storage.objects.create' denied on resource (or it may not exist)."},
	} {
		account := fmt.Sprintf("apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: %s\n  namespace: %s\n  annotations:\n    iam.gke.io/gcp-service-account: %s\n",
			other.ksa, uploadNamespace, other.gsa)
		for _, program := range []string{"go", "python"} {
			t.Run(other.ksa+"/"+program, func(t *testing.T) {
				seen := len(u.s.Storage.Records())
				name := other.ksa + "-" + program
				pod := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: %s}\nspec:\n  serviceAccountName: %s\n"+
					"  containers:\n  - {name: app, image: gcs-upload-%s, imagePullPolicy: IfNotPresent, args: [--bucket=%s]}\n",
					name, uploadNamespace, other.ksa, program, u.bucket())
				if err := u.s.Cluster.Apply(t.Context(), []byte(account+"---\n"+pod)); err != nil {
					t.Fatal(err)
				}
				log := u.says(t, name, other.want)
				if !strings.Contains(log, "403") {
					t.Errorf("there is no 403 in %s", log)
				}
				t.Logf("the pod's log: %s", log)
				u.s.Kubectl(t, "delete", "pod", name, "--namespace="+uploadNamespace, "--grace-period=1")
				u.checkRefused(t, u.s.Storage.Records()[seen:], other.ksa, other.gsa)
			})
		}
	}
}

// checkRefused checks the requests to Cloud Storage while another KSA's pod ran.
func (u *upload) checkRefused(t *testing.T, records []gcs.Record, ksa, gsa string) {
	t.Helper()
	refused := 0
	for _, r := range records {
		if r.Principal == "serviceAccount:"+u.gsa(uploadKSA) && !strings.Contains(r.Object, ksa) {
			continue // the Deployments' next round
		}
		if r.Status < http.StatusBadRequest && !strings.HasSuffix(r.Principal, Operator) {
			t.Errorf("%s %s of %s was answered %d", r.Method, r.Object, r.Principal, r.Status)
		}
		if r.Principal == "serviceAccount:"+gsa && r.Status == http.StatusForbidden {
			refused++
			if err := u.mode.chain(Chain{KSA: r.KSA, Through: r.Through, Principal: r.Principal}, gsa, ksa); err != nil {
				t.Error(err)
			}
		}
	}
	if want := ksa == "visitor"; want != (refused > 0) {
		t.Errorf("Cloud Storage refused %d requests of %s", refused, ksa)
	}
}

// says waits until a pod's log contains a text, and returns the log up to that line.
func (u *upload) says(t *testing.T, pod, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), saidWithin, fmt.Errorf("not within %s", saidWithin))
	defer cancel()
	if text == "" {
		t.Fatal("there is always nothing in a log")
	}
	// The log cannot be had before the container is there.
	u.s.Kubectl(t, "wait", "--for=jsonpath={.status.containerStatuses[0].started}=true", "pod/"+pod, "--namespace="+uploadNamespace, "--timeout=60s")
	follow, err := u.s.Cluster.Client.CoreV1().Pods(uploadNamespace).GetLogs(pod, &corev1.PodLogOptions{Follow: true}).Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer follow.Close()
	var output strings.Builder
	lines := bufio.NewScanner(follow)
	for lines.Scan() {
		output.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), text) {
			return output.String()
		}
	}
	t.Fatalf("the log of %s does not contain %s: %v, %v:\n%s", pod, text, lines.Err(), context.Cause(ctx), output.String())
	return ""
}

// remove runs the README's last block, which Paste leaves out.
func (u *upload) remove() {
	t := u.t
	path := filepath.Join(sourceRoot(t), uploadReadme)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := Blocks(string(content))
	if err != nil {
		t.Fatal(err)
	}
	last := len(blocks) - 1
	for i := range blocks {
		blocks[i].Reason = "it was run before"
	}
	blocks[last].Reason = ""
	commands, err := script(blocks, u.variables())
	if err != nil {
		t.Fatal(err)
	}
	u.s.Run(t, "bash", "-c", commands)
	if u.s.Storage.HasBucket(u.bucket()) {
		t.Errorf("the bucket %s is still there", u.bucket())
	}
}

// removeNamespace is for a test that failed before the README did it.
func (u *upload) removeNamespace() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.t.Context()), removedWithin)
	defer cancel()
	if _, err := u.s.run(ctx, "kubectl", "delete", "namespace", uploadNamespace, "--ignore-not-found"); err != nil {
		u.t.Error(err)
	}
}
