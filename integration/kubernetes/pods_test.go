package kubernetes

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

func TestPods(t *testing.T) {
	c := Start(t)
	c.Namespace(t, "team")
	c.Node(t, "node-1", map[string]string{"zone": "a"})
	c.KSA(t, "team", "app", nil)

	t.Run("running", func(t *testing.T) {
		pod := c.RunPod(t, PodSpec{Namespace: "team", Name: "running", KSA: "app", Node: "node-1", IP: "127.0.1.7"})
		if s := pod.Status; s.Phase != corev1.PodRunning || s.PodIP != "127.0.1.7" || len(s.PodIPs) != 1 || s.HostIP != nodeIP {
			t.Errorf("status is %+v", s)
		}
		if up := condition(pod, corev1.PodReadyToStartContainers); up != corev1.ConditionTrue {
			t.Errorf("PodReadyToStartContainers is %q", up)
		}
		if pod.Spec.ServiceAccountName != "app" || len(pod.Spec.Volumes) != 1 {
			t.Errorf("KSA %q, volumes %v; want app and its token's volume", pod.Spec.ServiceAccountName, pod.Spec.Volumes)
		}
		pods, err := c.Client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{
			FieldSelector: fields.OneTermEqualSelector("spec.nodeName", "node-1").String(),
		})
		if err != nil || len(pods.Items) != 1 {
			t.Errorf("%d pods on the node, error %v", len(pods.Items), err)
		}
	})
	t.Run("address later", func(t *testing.T) {
		pod := c.RunPod(t, PodSpec{Namespace: "team", Name: "early", Node: "node-1"})
		if pod.Spec.NodeName != "node-1" || pod.Spec.ServiceAccountName != "default" {
			t.Errorf("spec is %+v, want it bound and with KSA default", pod.Spec)
		}
		if s := pod.Status; s.Phase != corev1.PodPending || s.PodIP != "" {
			t.Errorf("status is %+v, want Pending and no IP", s)
		}
		pod = c.SetPodIP(t, pod, "127.0.1.8", "::1")
		if s := pod.Status; s.Phase != corev1.PodRunning || s.PodIP != "127.0.1.8" || len(s.PodIPs) != 2 {
			t.Errorf("status is %+v", s)
		}
	})
	t.Run("host network", func(t *testing.T) {
		pod := c.RunPod(t, PodSpec{Namespace: "team", Name: "host", Node: "node-1", HostNetwork: true})
		if s := pod.Status; s.PodIP != nodeIP || s.HostIP != nodeIP {
			t.Errorf("status is %+v", s)
		}
	})
	t.Run("finished", func(t *testing.T) {
		for _, phase := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed} {
			pod := c.RunPod(t, PodSpec{Namespace: "team", Name: "finished", Node: "node-1", IP: "127.0.1.9"})
			pod = c.FinishPod(t, pod, phase)
			if s := pod.Status; s.Phase != phase || s.PodIP != "127.0.1.9" {
				t.Errorf("status is %+v", s)
			}
			c.DeletePod(t, pod)
		}
	})
	t.Run("terminating", func(t *testing.T) {
		pod := c.RunPod(t, PodSpec{Namespace: "team", Name: "terminating", Node: "node-1", IP: "127.0.1.10"})
		pod = c.TerminatePod(t, pod)
		if pod.DeletionTimestamp == nil || pod.Status.Phase != corev1.PodRunning {
			t.Errorf("deletion timestamp %v, phase %s", pod.DeletionTimestamp, pod.Status.Phase)
		}
		c.DeletePod(t, pod)
		_, err := c.Client.CoreV1().Pods("team").Get(t.Context(), "terminating", metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			t.Errorf("get after delete: %v, want not found", err)
		}
	})
	t.Run("KSA missing", func(t *testing.T) {
		_, err := c.Client.CoreV1().Pods("team").Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "nobody"},
			Spec: corev1.PodSpec{
				ServiceAccountName: "nobody",
				Containers:         []corev1.Container{{Name: "main", Image: "example.com/main"}},
			},
		}, metav1.CreateOptions{})
		if !apierrors.IsForbidden(err) {
			t.Errorf("error is %v, want forbidden by admission", err)
		}
	})
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) corev1.ConditionStatus {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == kind {
			return condition.Status
		}
	}
	return ""
}
