package integration

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientset "k8s.io/client-go/kubernetes"

	"gke-metadata-emulator/fakegoogle"
	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/integration/kubernetes"
	"gke-metadata-emulator/internal/config"
)

// telling is a daemon that reports refusals as events on pods, with the rights that deploy/
// gives it.
func telling(s *config.Serve) { s.Pods.Events = true }

// eventsOn are the events of a pod, as kubectl describe finds them.
func eventsOn(t testing.TB, client clientset.Interface, pod *corev1.Pod) []corev1.Event {
	t.Helper()
	list, err := client.CoreV1().Events(pod.Namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID)})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// awaitEvent waits for an event with a reason. Its message must contain the parts.
func awaitEvent(t testing.TB, client clientset.Interface, pod *corev1.Pod, reason string, parts ...string) {
	t.Helper()
	var found corev1.Event
	eventually(t, deadline, "an event "+reason+" on "+pod.Name, func() error {
		for _, found = range eventsOn(t, client, pod) {
			if found.Reason == reason {
				return nil
			}
		}
		return fmt.Errorf("there are %v", eventsOn(t, client, pod))
	})
	for _, part := range parts {
		if !strings.Contains(found.Message, part) {
			t.Errorf("%s: %q is missing in %q", reason, part, found.Message)
		}
	}
	if found.Type != corev1.EventTypeWarning || found.Source.Component != daemonName {
		t.Errorf("%s: type %s, source %v", reason, found.Type, found.Source)
	}
	for _, secret := range []string{"ya29.", "eyJ"} {
		if strings.Contains(found.Message, secret) {
			t.Errorf("%s: there is a token in %q", reason, found.Message)
		}
	}
}

func TestEvents_TellPodOwnersHowToFixRefusals(t *testing.T) {
	n := startNode(t, telling).ready(t)
	ns := cluster.Namespace(t, "team-")
	started := 0
	start := func(ksa, gsa string) (*pod, *corev1.Pod) {
		started++
		cluster.KSA(t, ns, ksa, map[string]string{identity.AnnotationGSA: gsa})
		ip := fmt.Sprintf("127.0.1.%d", started)
		object := cluster.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: ksa, KSA: ksa, Node: n.name, IP: ip})
		return n.pod(t, ip), object
	}
	refused := func(p *pod, status int) {
		t.Helper()
		if got := p.get(tokenPath); got.status != status {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	written := func(want int) {
		t.Helper()
		line := fmt.Sprintf(`gme_events_total{result="written"} %d`, want)
		// The counter is written after the API server has the event.
		eventually(t, deadline, line, func() error {
			if metrics := n.metrics(t); !strings.Contains(metrics, line+"\n") {
				return errors.New(grep(metrics, "gme_events"))
			}
			return nil
		})
		if metrics := n.metrics(t); strings.Contains(metrics, `gme_events_total{result="failed"}`) {
			t.Errorf("an event failed:\n%s", grep(metrics, "gme_events"))
		}
	}

	// 1,000 refusals are one event, and one request to the API server.
	const gsa = "reader@" + projectID + ".iam.gserviceaccount.com"
	n.google.AddServiceAccount(gsa)
	app, object := start("denied", gsa)
	for range 1000 {
		refused(app, http.StatusForbidden)
	}
	awaitEvent(t, cluster.Client, object, "GoogleTokenDenied", "gcloud iam service-accounts add-iam-policy-binding "+gsa, principal(ns, "denied"))
	if all := eventsOn(t, cluster.Client, object); len(all) != 1 {
		t.Errorf("%d events", len(all))
	}
	written(1)

	app, object = start("unknown", "nobody@"+projectID+".iam.gserviceaccount.com")
	refused(app, http.StatusNotFound)
	awaitEvent(t, cluster.Client, object, "GoogleServiceAccountNotFound", "nobody@"+projectID)

	_, object = start("annotation", "reader")
	app = n.pod(t, "127.0.1.3")
	refused(app, http.StatusForbidden)
	awaitEvent(t, cluster.Client, object, "BadServiceAccountAnnotation", "kubectl annotate serviceaccount --overwrite --namespace "+ns+" annotation")

	n.google.SetFault(fakegoogle.MethodSTSToken, fakegoogle.Fault{Status: http.StatusUnauthorized})
	app, object = start("misconfigured", gsa)
	refused(app, http.StatusForbidden)
	awaitEvent(t, cluster.Client, object, "MetadataServerMisconfigured", "cluster's operator fixes this")

	n.google.SetFault(fakegoogle.MethodSTSToken, fakegoogle.Fault{Status: http.StatusServiceUnavailable})
	app, object = start("down", gsa)
	refused(app, http.StatusServiceUnavailable)
	awaitEvent(t, cluster.Client, object, "GoogleTokenUnavailable", "503", "check the node's network path")
	written(5)
}

// Events wait in a separate queue while the API server hangs.
func TestEvents_HangingAPIServerDoesNotDelayRefusals(t *testing.T) {
	own := kubernetes.Start(t)
	if err := install(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	const gsa = "reader@" + projectID + ".iam.gserviceaccount.com"
	google := newGoogle(t, own)
	google.AddServiceAccount(gsa)
	n := startNodeOn(t, own, google, telling).ready(t)
	ns := own.Namespace(t, "team-")
	own.KSA(t, ns, "app", map[string]string{identity.AnnotationGSA: gsa})
	const pods, requests = 15, 50
	var all []*pod
	var objects []*corev1.Pod
	for i := range pods {
		ip := fmt.Sprintf("127.0.1.%d", i+1)
		objects = append(objects, own.RunPod(t, kubernetes.PodSpec{Namespace: ns, Name: fmt.Sprint("app-", i), KSA: "app", Node: n.name, IP: ip}))
		all = append(all, n.pod(t, ip))
		all[i].email()
	}
	all[0].get(tokenPath) // the refusal is remembered from here on
	awaitEvent(t, own.Client, objects[0], "GoogleTokenDenied")
	if err := own.PauseAPIServer(); err != nil {
		t.Fatal(err)
	}
	start, slowest := time.Now(), time.Duration(0)
	for range requests {
		for _, app := range all {
			start := time.Now()
			if got := app.get(tokenPath); got.status != http.StatusForbidden {
				t.Errorf("%d %s", got.status, got.body)
			}
			slowest = max(slowest, time.Since(start))
		}
	}
	t.Logf("%d refusals of %d pods took %s while the API server hung, the slowest %s", pods*requests, pods, time.Since(start).Round(time.Millisecond), slowest.Round(time.Millisecond))
	if err := own.ResumeAPIServer(); err != nil {
		t.Fatal(err)
	}
	// A refusal that waited for its event would wait until the API server goes on.
	if slowest > 5*time.Second {
		t.Errorf("a refusal took %s while the API server hung", slowest)
	}
	for _, object := range objects {
		awaitEvent(t, own.Client, object, "GoogleTokenDenied", "gcloud iam")
	}
}
