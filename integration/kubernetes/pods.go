package kubernetes

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
)

// PodSpec describes a pod of a test.
type PodSpec struct {
	Namespace   string
	Name        string
	KSA         string // default if empty; it has to exist
	Node        string // does not have to exist
	HostNetwork bool
	IP          string // none yet if empty, or the node's with HostNetwork
}

// RunPod creates a pod that is bound to its node, and reports what the kubelet would report:
// that the pod runs, and its address. Without an IP the pod stays Pending, as if its sandbox
// had no network yet, until SetPodIP.
func (c *Cluster) RunPod(t testing.TB, spec PodSpec) *corev1.Pod {
	t.Helper()
	name := spec.Namespace + "/" + spec.Name
	if spec.Node == "" {
		t.Fatalf("run pod %s: PodSpec.Node is empty", name)
	}
	pod := do(t, "create pod "+name, func(ctx context.Context) (*corev1.Pod, error) {
		return c.Client.CoreV1().Pods(spec.Namespace).Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: spec.Name},
			Spec: corev1.PodSpec{
				ServiceAccountName: spec.KSA,
				NodeName:           spec.Node,
				HostNetwork:        spec.HostNetwork,
				Containers:         []corev1.Container{{Name: "main", Image: "example.com/main"}},
			},
		}, metav1.CreateOptions{})
	})
	switch {
	case spec.IP != "":
		return c.SetPodIP(t, pod, spec.IP)
	case spec.HostNetwork:
		return c.SetPodIP(t, pod, nodeIP)
	default:
		return c.setPodStatus(t, pod, func(s *corev1.PodStatus) {
			setAddresses(s, nodeIP)
			setConditions(s, corev1.ConditionFalse)
		})
	}
}

// SetPodIP reports that the pod runs and has these addresses, the first one
// being its primary one.
func (c *Cluster) SetPodIP(t testing.TB, pod *corev1.Pod, ips ...string) *corev1.Pod {
	t.Helper()
	host := nodeIP
	if pod.Spec.HostNetwork && len(ips) > 0 {
		host = ips[0]
	}
	return c.setPodStatus(t, pod, func(s *corev1.PodStatus) {
		s.Phase = corev1.PodRunning
		setAddresses(s, host, ips...)
		setConditions(s, corev1.ConditionTrue)
		setContainer(s, pod.UID, corev1.ContainerState{
			Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()},
		})
	})
}

// FinishPod reports that the pod's containers have ended for good; phase is
// Succeeded or Failed. Its addresses stay in its status, as with a kubelet,
// though other pods may have them from now on.
func (c *Cluster) FinishPod(t testing.TB, pod *corev1.Pod, phase corev1.PodPhase) *corev1.Pod {
	t.Helper()
	ended := corev1.ContainerStateTerminated{Reason: "Completed", FinishedAt: metav1.Now()}
	switch phase {
	case corev1.PodSucceeded:
	case corev1.PodFailed:
		ended.Reason, ended.ExitCode = "Error", 1
	default:
		t.Fatalf("finish pod %s/%s: phase %q is neither Succeeded nor Failed", pod.Namespace, pod.Name, phase)
	}
	return c.setPodStatus(t, pod, func(s *corev1.PodStatus) {
		s.Phase = phase
		setConditions(s, corev1.ConditionFalse)
		setContainer(s, pod.UID, corev1.ContainerState{Terminated: &ended})
	})
}

// TerminatePod deletes the pod gracefully: it has a deletion timestamp and
// stays, as nothing here stops its containers, until DeletePod. (A pod that has
// finished is gone at once.)
func (c *Cluster) TerminatePod(t testing.TB, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	c.deletePod(t, pod, 30)
	return do(t, "get the terminating pod "+pod.Namespace+"/"+pod.Name, func(ctx context.Context) (*corev1.Pod, error) {
		return c.Client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
	})
}

// DeletePod removes the pod at once, as the kubelet does when the pod's containers have
// ended. The remarks about tokens at DeleteKSA apply to tokens that are bound to the pod.
func (c *Cluster) DeletePod(t testing.TB, pod *corev1.Pod) {
	t.Helper()
	c.deletePod(t, pod, 0)
}

func (c *Cluster) deletePod(t testing.TB, pod *corev1.Pod, grace int64) {
	t.Helper()
	do(t, "delete pod "+pod.Namespace+"/"+pod.Name, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: &grace,
			Preconditions:      &metav1.Preconditions{UID: &pod.UID},
		})
	})
}

func (c *Cluster) setPodStatus(t testing.TB, pod *corev1.Pod, change func(*corev1.PodStatus)) *corev1.Pod {
	t.Helper()
	pods := c.Client.CoreV1().Pods(pod.Namespace)
	return do(t, "status of pod "+pod.Namespace+"/"+pod.Name, func(ctx context.Context) (updated *corev1.Pod, err error) {
		err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			current, err := pods.Get(ctx, pod.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if current.UID != pod.UID {
				return fmt.Errorf("another pod has this name: UID is %s, not %s", current.UID, pod.UID)
			}
			change(&current.Status)
			updated, err = pods.UpdateStatus(ctx, current, metav1.UpdateOptions{})
			return err
		})
		return updated, err
	})
}

func setAddresses(s *corev1.PodStatus, host string, ips ...string) {
	s.HostIP, s.HostIPs = host, []corev1.HostIP{{IP: host}}
	s.PodIP, s.PodIPs = "", nil
	for _, ip := range ips {
		s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip})
	}
	if len(ips) > 0 {
		s.PodIP = ips[0]
	}
}

// setConditions reports whether the pod's sandbox and containers are up.
func setConditions(s *corev1.PodStatus, up corev1.ConditionStatus) {
	now := metav1.Now()
	if s.StartTime == nil {
		s.StartTime = &now
	}
	s.Conditions = nil
	for _, condition := range []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue},
		{Type: corev1.PodReadyToStartContainers, Status: up},
		{Type: corev1.ContainersReady, Status: up},
		{Type: corev1.PodReady, Status: up},
	} {
		condition.LastTransitionTime = now
		s.Conditions = append(s.Conditions, condition)
	}
}

func setContainer(s *corev1.PodStatus, uid types.UID, state corev1.ContainerState) {
	running := state.Running != nil
	s.ContainerStatuses = []corev1.ContainerStatus{{
		Name:        "main",
		Image:       "example.com/main",
		ImageID:     "example.com/main@sha256:" + strings.Repeat("0", 64),
		ContainerID: containerID(uid),
		State:       state,
		Ready:       running,
		Started:     &running,
	}}
}

// containerID is one that stays with the pod and looks like a runtime's.
func containerID(uid types.UID) string {
	hex := strings.ReplaceAll(string(uid), "-", "")
	return "containerd://" + hex + hex
}
