package examples

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/cluster"
	"gke-metadata-emulator/integration/cluster/deployment"
	"gke-metadata-emulator/integration/internal/checkout"
)

const (
	onPremFolder    = "examples/on-prem"
	onPremNamespace = "reports"

	// recoversWithin bounds the time from the upload to the first token: the daemon caches a
	// refusal for five seconds, and a pod sends five requests a second. The rest is for
	// busy machines.
	recoversWithin = time.Minute
	alertsWithin   = 2 * time.Minute
	// answersWithin is long, because a kubelet reconnects slowly to an API server that was
	// down, and starts no pods until then.
	answersWithin = 3 * time.Minute
)

// onPrem follows examples/on-prem, and rotates the cluster's signing key twice, in the right
// order and in the wrong one, while pods request tokens.
func onPrem(t *testing.T, s *Fixture) {
	if !s.Gcloud() {
		t.Skip("this machine has no gcloud, with which the README sets everything up")
	}
	o := &onPremises{t: t, s: s, variables: map[string]string{"PROJECT_ID": ProjectID, "POOL": "on-prem", "PROVIDER": "cluster-1"}}
	o.load()
	start := time.Now()
	t.Cleanup(o.remove)
	output := s.RunBlocks(t, onPremFolder+"/README.md", map[string]string{
		"PROJECT_ID": ProjectID, "POOL": o.variables["POOL"], "PROVIDER": o.variables["PROVIDER"], "GSA_NAME": "reports-writer",
	})
	t.Logf("the README's commands took %s, to a pod with a token", time.Since(start).Round(100*time.Millisecond))
	if !strings.HasSuffix(strings.TrimSpace(output), "200") {
		t.Errorf("the last lines of the pod that requests tokens:\n%s", output)
	}
	o.otherTeamsAccountIsRefused()
	o.prometheusScrapes()

	o.polls = collect(t, s)
	t.Cleanup(func() { o.polls.report(t) })
	before := o.daemons()
	o.warm()
	o.rotateInTheRightOrder()
	o.rotateWithoutUpload()
	if after := o.daemons(); after != before {
		t.Errorf("the daemons were %s and are %s: something was restarted", before, after)
	}
	o.polls.check(t)
}

type onPremises struct {
	t         *testing.T
	s         *Fixture
	variables map[string]string
	polls     *polls
	warmPods  []string
	first     cluster.SigningKey
}

// load gives the nodes the images that other clusters pull: curl, and a real Prometheus that
// discovers pods by its configuration.
func (o *onPremises) load() {
	t, ctx := o.t, o.t.Context()
	files := map[string]string{}
	for _, program := range []string{"curl", "sh", "sleep"} {
		with, err := cluster.WithLibraries(ctx, program)
		if err != nil {
			t.Fatal(err)
		}
		for target, source := range with {
			files[target] = source
		}
	}
	curl := lookPath(t, "curl")
	start := time.Now()
	// All other discoveries are as large as the rest.
	prometheus, err := o.s.Cluster.BuildStatic(ctx, onPremFolder, "github.com/prometheus/prometheus/cmd/prometheus", "prometheus",
		"remove_all_sd", "enable_kubernetes_sd", "netgo")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Prometheus was built in %s", time.Since(start).Round(100*time.Millisecond))
	o.s.Load(t,
		cluster.Image{Name: "docker.io/curlimages/curl:8.16.0", Files: files, Entrypoint: []string{curl}},
		cluster.Image{Name: "docker.io/prom/prometheus:v3.16.0", Files: map[string]string{"/bin/prometheus": prometheus}, Entrypoint: []string{"/bin/prometheus"}})
}

func (o *onPremises) otherTeamsAccountIsRefused() {
	_, err := o.s.run(o.t.Context(), "kubectl", "annotate", "--overwrite", "serviceaccount", "writer", "--namespace", onPremNamespace,
		identity.AnnotationGSA+"=billing@"+ProjectID+".iam.gserviceaccount.com")
	if err == nil || !strings.Contains(err.Error(), "namespace reports may use Google service accounts named reports-... only, not billing@") {
		o.t.Errorf("the annotation with another team's account: %v", err)
	}
}

// warm starts pods of the README's KSA, which have their token from then on.
func (o *onPremises) warm() {
	o.polls.enter("before")
	for _, n := range o.s.Cluster.Nodes {
		o.warmPods = append(o.warmPods, o.poller("writer", n))
	}
	for _, pod := range o.warmPods {
		o.polls.await(o.t, pod, right, 3, answersWithin)
	}
}

// rotateInTheRightOrder: the first request after the rotation gets a token, too.
func (o *onPremises) rotateInTheRightOrder() {
	old, next := o.s.Cluster.SigningKey(), o.newKey()
	o.first = old
	o.polls.enter("next key known")
	o.sign(old, next)
	o.s.RunBlocks(o.t, onPremFolder+"/rotation.md", o.variables)
	o.polls.enter("next key signs")
	o.sign(next, old)
	for _, pod := range append(o.newcomers("second"), o.warmPods...) {
		o.polls.await(o.t, pod, right, 5, answersWithin)
	}
	o.polls.enter("recovered")
}

// rotateWithoutUpload: cached tokens stay valid. New ones are refused with the reason and
// the remedy, and the remedy works.
func (o *onPremises) rotateWithoutUpload() {
	t := o.t
	old, next := o.s.Cluster.SigningKey(), o.newKey()
	o.polls.enter("not uploaded")
	// The daemons' own tokens are of the first key still: they are of an hour.
	o.sign(next, old, o.first)
	late := o.newcomers("third")
	for _, pod := range late {
		o.polls.await(t, pod, refused, 20, answersWithin)
	}
	for _, pod := range o.warmPods {
		o.polls.await(t, pod, right, 20, answersWithin)
	}
	o.alertFires("UploadedKeysAreStale")
	refusal := o.polls.last(late[0], refused)
	t.Logf("a pod reads: %s", refusal)
	folder := t.TempDir()
	if _, err := o.s.runIn(t.Context(), folder, "bash", "-euo", "pipefail", "-c", remedy(refusal)); err != nil {
		t.Fatalf("the commands of the refusal: %v", err)
	}
	o.polls.enter("uploaded")
	uploaded := time.Now()
	for _, pod := range late {
		first := o.polls.await(t, pod, right, 1, answersWithin)
		took := first.Sub(uploaded)
		t.Logf("%s has a token %s after the upload", pod, took.Round(10*time.Millisecond))
		if took > recoversWithin {
			t.Errorf("%s recovered %s after the upload, want %s at most", pod, took, recoversWithin)
		}
	}
	for _, pod := range append(late, o.warmPods...) {
		o.polls.await(t, pod, right, 5, answersWithin)
	}
}

// remedy is the commands in a refusal.
func remedy(refusal string) string {
	var commands []string
	for line := range strings.Lines(refusal) {
		if strings.HasPrefix(line, "kubectl ") || strings.HasPrefix(line, "gcloud ") {
			commands = append(commands, strings.TrimSpace(line))
		}
	}
	return strings.Join(commands, "\n")
}

func (o *onPremises) newKey() cluster.SigningKey {
	key, err := o.s.Cluster.NewSigningKey()
	if err != nil {
		o.t.Fatal(err)
	}
	return key
}

func (o *onPremises) sign(key cluster.SigningKey, others ...cluster.SigningKey) {
	o.t.Helper()
	start := time.Now()
	if err := o.s.Cluster.Sign(o.t.Context(), key, others...); err != nil {
		o.t.Fatal(err)
	}
	o.t.Logf("%s: the API server was restarted in %s", o.polls.now(), time.Since(start).Round(100*time.Millisecond))
}

// newcomers are pods, one on each node, of a KSA that has requested nothing yet.
func (o *onPremises) newcomers(ksa string) []string {
	gsa := reportsGSA(ksa)
	o.s.Google.Bind(gsa, "roles/iam.workloadIdentityUser", deployment.Principal(onPremNamespace, ksa))
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: ksa, Annotations: map[string]string{identity.AnnotationGSA: gsa}}}
	if _, err := o.s.Cluster.Client.CoreV1().ServiceAccounts(onPremNamespace).Create(o.t.Context(), account, metav1.CreateOptions{}); err != nil {
		o.t.Fatal(err)
	}
	var pods []string
	for _, n := range o.s.Cluster.Nodes {
		pods = append(pods, o.poller(ksa, n))
	}
	return pods
}

func reportsGSA(ksa string) string {
	return onPremNamespace + "-" + ksa + "@" + ProjectID + ".iam.gserviceaccount.com"
}

// poller starts a pod that asks for its token all the time.
func (o *onPremises) poller(ksa string, n *cluster.Node) string {
	const script = `while :; do
: >/tmp/answer
status=$("$0" -sS -m 5 -o /tmp/answer -w '%{http_code}' -H 'Metadata-Flavor: Google' http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token)
"$0" -sS -m 5 -o /dev/null -H "Pod: $1" -H "Status: $status" --data-binary @/tmp/answer "$2"
"$3" 0.2
done`
	name := ksa + "-" + n.Name
	o.polls.expect(name, Chain{KSA: onPremNamespace + "/" + ksa, Through: []string{deployment.Principal(onPremNamespace, ksa)}, Principal: "serviceAccount:" + reportsGSA(ksa)})
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			NodeName: n.Name, ServiceAccountName: ksa,
			Volumes: []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
			Containers: []corev1.Container{{
				Name: "curl", Image: "docker.io/curlimages/curl:8.16.0",
				Command:      []string{lookPath(o.t, "sh"), "-c", script, lookPath(o.t, "curl"), name, o.polls.url, lookPath(o.t, "sleep")},
				VolumeMounts: []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}},
			}},
		},
	}
	// The controllers, by whom a namespace gets its certificates, may have just begun.
	if _, err := o.s.Cluster.Client.CoreV1().Pods(onPremNamespace).Create(o.t.Context(), pod, metav1.CreateOptions{}); err != nil {
		o.t.Fatal(err)
	}
	return name
}

// daemons are the pods of the product and how often each was started.
func (o *onPremises) daemons() string {
	return o.s.Kubectl(o.t, "get", "pods", "--namespace", deployment.Name, "--sort-by", "{.metadata.uid}",
		"--output", `jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[*].restartCount}{"\n"}{end}`)
}

// remove is the end of the README, without the commands that need Google.
func (o *onPremises) remove() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(o.t.Context()), 2*time.Minute)
	defer cancel()
	root, err := checkout.Root()
	if err != nil {
		o.t.Error(err)
		return
	}
	folder := filepath.Join(root, onPremFolder)
	for _, query := range [][]string{{"-f", "policy.yaml"}, {"namespace", onPremNamespace}, {"-k", "monitoring"}, {"-k", "daemon"}} {
		command := append([]string{"kubectl", "delete", "--ignore-not-found"}, query...)
		if _, err := o.s.runIn(ctx, folder, command...); err != nil {
			o.t.Error(err)
		}
	}
	for _, n := range o.s.Cluster.Nodes {
		if _, err := n.Run(ctx, o.s.Program, "cleanup"); err != nil {
			o.t.Error(err)
		}
	}
	for _, made := range []string{"jwks.json", "daemon/settings.env"} {
		if err := os.Remove(filepath.Join(folder, made)); err != nil && !errors.Is(err, os.ErrNotExist) {
			o.t.Error(err)
		}
	}
}

const prometheusAPI = "/api/v1/namespaces/monitoring/services/prometheus:9090/proxy/api/v1/"

// prometheusScrapes waits until Prometheus has read the metrics of both daemons.
func (o *onPremises) prometheusScrapes() {
	o.eventually("both daemons are scraped", func() error {
		var answer struct {
			Data struct {
				ActiveTargets []struct {
					Labels            map[string]string
					Health, LastError string
				}
			}
		}
		if err := o.ask("targets", &answer); err != nil {
			return err
		}
		up := map[string]bool{}
		for _, target := range answer.Data.ActiveTargets {
			up[target.Labels["instance"]] = target.Health == "up"
		}
		for _, n := range o.s.Cluster.Nodes {
			if !up[n.Name] {
				return fmt.Errorf("%s is not up: %+v", n.Name, answer.Data.ActiveTargets)
			}
		}
		return nil
	})
}

func (o *onPremises) alertFires(name string) {
	start := time.Now()
	o.eventually("alert "+name, func() error {
		var answer struct {
			Data struct {
				Alerts []struct {
					Labels, Annotations map[string]string
					State               string
				}
			}
		}
		if err := o.ask("alerts", &answer); err != nil {
			return err
		}
		for _, alert := range answer.Data.Alerts {
			if alert.Labels["alertname"] == name && alert.State == "firing" {
				o.t.Logf("%s fires after %s: %s", name, time.Since(start).Round(time.Second), alert.Annotations["summary"])
				return nil
			}
		}
		return fmt.Errorf("these are there: %+v", answer.Data.Alerts)
	})
}

func (o *onPremises) ask(path string, answer any) error {
	body, err := o.s.Cluster.Client.Discovery().RESTClient().Get().AbsPath(prometheusAPI + path).DoRaw(o.t.Context())
	if err != nil {
		return err
	}
	return json.Unmarshal(body, answer)
}

func (o *onPremises) eventually(condition string, is func() error) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), alertsWithin)
	defer cancel()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		err := is()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			o.t.Fatalf("%s: not within %s: %v", condition, alertsWithin, err)
		}
	}
}
