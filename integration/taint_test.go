package integration

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"gke-metadata-emulator/internal/config"
)

// As on a node that joins with a taint: the daemon takes it off when it is ready, by
// the rights of deploy/startup-taint and under the admission policies.
func TestStartupTaint_IsRemovedOnceReady(t *testing.T) {
	const name = "startup-taint"
	startup := corev1.Taint{Key: startupTaint, Effect: corev1.TaintEffectNoSchedule}
	others := corev1.Taint{Key: "example.com/gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}
	cluster.Node(t, name, nil)
	taint(t, name, startup, others)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	events, err := cluster.Client.CoreV1().Nodes().Watch(ctx, metav1.SingleObject(metav1.ObjectMeta{Name: name}))
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	n := startNode(t, func(s *config.Serve) {
		s.Node.Name, s.Kubernetes.Kubeconfig, s.StartupTaint.Key = name, daemonOn(t, cluster, name), startupTaint
	})
	for event := range events.ResultChan() {
		node, ok := event.Object.(*corev1.Node)
		if !ok {
			t.Fatalf("%v", event.Object)
		}
		if len(node.Spec.Taints) == 1 {
			break
		}
	}
	response, err := http.Get("http://" + n.admin + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	if response.Body.Close(); response.StatusCode != http.StatusOK {
		t.Errorf("pods are let in and the daemon is %s", response.Status)
	}
	untainted := func(within time.Duration, want ...corev1.Taint) {
		t.Helper()
		eventually(t, within, "the taint is removed", func() error {
			node, err := cluster.Client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
			if err == nil && fmt.Sprint(node.Spec.Taints) != fmt.Sprint(want) {
				err = fmt.Errorf("taints %v, want %v", node.Spec.Taints, want)
			}
			return err
		})
	}
	untainted(time.Second, others)

	// The node joins again, while its taints are changed concurrently.
	taint(t, name, startup)
	var wanted []corev1.Taint
	for i := range 20 {
		further := corev1.Taint{Key: fmt.Sprintf("example.com/taint-%d", i), Effect: corev1.TaintEffectPreferNoSchedule}
		wanted = append(wanted, further)
		change(t, name, func(node *corev1.Node) { node.Spec.Taints = append(node.Spec.Taints, further) })
	}
	untainted(45*time.Second, wanted...)
	if line := `gme_startup_taint_total{result="removed"} 2`; !strings.Contains(n.metrics(t), line) {
		t.Errorf("metrics without %s:\n%s", line, grep(n.metrics(t), "gme_startup_taint"))
	}
}

// change changes a node, as an administrator.
func change(t testing.TB, name string, f func(*corev1.Node)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		node, err := cluster.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		f(node)
		_, err = cluster.Client.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
