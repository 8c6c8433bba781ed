package identity

import (
	"slices"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
)

func TestPod_LifetimeOfAddress(t *testing.T) {
	owned, lost := []string{"10.0.0.1"}, []string(nil)
	for name, test := range map[string]struct {
		changes []func(*corev1.Pod)
		alive   bool
		ips     []string
		hostIPs []string
	}{
		"pending":                            {[]func(*corev1.Pod){phase(corev1.PodPending)}, true, owned, []string{nodeIP}},
		"running":                            {nil, true, owned, []string{nodeIP}},
		"unknown":                            {[]func(*corev1.Pod){phase(corev1.PodUnknown)}, true, owned, []string{nodeIP}},
		"succeeded":                          {[]func(*corev1.Pod){phase(corev1.PodSucceeded)}, false, lost, []string{nodeIP}},
		"failed":                             {[]func(*corev1.Pod){phase(corev1.PodFailed)}, false, lost, []string{nodeIP}},
		"failed, and deleted":                {[]func(*corev1.Pod){phase(corev1.PodFailed), deleting}, false, lost, []string{nodeIP}},
		"terminating":                        {[]func(*corev1.Pod){deleting}, true, owned, []string{nodeIP}},
		"terminating, with its sandbox":      {[]func(*corev1.Pod){deleting, sandbox(corev1.ConditionTrue)}, true, owned, []string{nodeIP}},
		"terminating, sandbox unknown":       {[]func(*corev1.Pod){deleting, sandbox(corev1.ConditionUnknown)}, true, owned, []string{nodeIP}},
		"terminating, without its sandbox":   {[]func(*corev1.Pod){deleting, sandbox(corev1.ConditionFalse)}, false, lost, []string{nodeIP}},
		"its sandbox is being created again": {[]func(*corev1.Pod){sandbox(corev1.ConditionFalse)}, true, owned, []string{nodeIP}},
		"host network":                       {[]func(*corev1.Pod){hostNetwork}, true, lost, []string{nodeIP, "10.0.0.1"}},
		"dual-stack":                         {[]func(*corev1.Pod){ips("10.0.0.1", "2001:db8::1")}, true, []string{"10.0.0.1", "2001:db8::1"}, []string{nodeIP}},
		"mapped, in another form":            {[]func(*corev1.Pod){ips("::ffff:10.0.0.1", "2001:DB8:0::1")}, true, []string{"10.0.0.1", "2001:db8::1"}, []string{nodeIP}},
		"dual-stack node":                    {[]func(*corev1.Pod){func(p *corev1.Pod) { p.Status.HostIPs = []corev1.HostIP{{IP: nodeIP}, {IP: "2001:db8:ffff::1"}} }}, true, owned, []string{nodeIP, "2001:db8:ffff::1"}},
		"mapped alone":                       {[]func(*corev1.Pod){func(p *corev1.Pod) { p.Status.PodIP = "::ffff:10.0.0.1" }}, true, owned, []string{nodeIP}},
		"no address yet":                     {[]func(*corev1.Pod){func(p *corev1.Pod) { p.Status.PodIP, p.Status.HostIP = "", "" }}, true, lost, nil},
		"no address but nonsense":            {[]func(*corev1.Pod){func(p *corev1.Pod) { p.Status.PodIP = "10.0.0" }}, true, lost, []string{nodeIP}},
	} {
		// In the form that the store has.
		pod := must(slimPod(newPod("shop", "app", "10.0.0.1", test.changes...))).(*corev1.Pod)
		if got := alive(pod); got != test.alive {
			t.Errorf("%s: alive %t", name, got)
		}
		if got := must(indexPods(alive, ownIPs)(pod)); !slices.Equal(got, test.ips) {
			t.Errorf("%s: found at %v, want %v", name, got, test.ips)
		}
		if got := must(indexPods(anyPod, nodeIPs)(pod)); !slices.Equal(got, test.hostIPs) {
			t.Errorf("%s: addresses of the node %v, want %v", name, got, test.hostIPs)
		}
	}
}

// A shutdown hook flushes its data with the identity that the pod had.
func TestPod_KeepsIdentityUntilSandboxEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, newPod("shop", "app", "10.0.0.1"), newAccount("shop", "default", AnnotationGSA, gsa)).run()
		b.update(newPod("shop", "app", "10.0.0.1", deleting, sandbox(corev1.ConditionTrue)))
		pod := b.wantPodAt("10.0.0.1", "app")
		if w, err := b.workload(pod); err != nil || w.GSA != gsa {
			t.Errorf("workload %+v, %v", w, err)
		}
		b.update(newPod("shop", "app", "10.0.0.1", deleting, sandbox(corev1.ConditionFalse)))
		_, err := b.podAt("10.0.0.1")
		wantError(t, err, Unknown)
		_, err = b.workload(pod)
		wantError(t, err, Gone)
	})
}

// A dense node has many pods, so memory matters.
func TestTransforms_DropUnusedFields(t *testing.T) {
	pod := newPod("shop", "app", "10.0.0.1", func(p *corev1.Pod) {
		p.Annotations = map[string]string{"large": "value"}
		p.Spec.Containers = []corev1.Container{{Name: "c", Env: []corev1.EnvVar{{Name: "PASSWORD", Value: "x"}}}}
	})
	if slim := must(slimPod(pod)).(*corev1.Pod); slim.Annotations != nil || slim.Spec.Containers != nil {
		t.Errorf("a pod is stored with %v and %v", slim.Annotations, slim.Spec.Containers)
	}
	metadata := newAccount("shop", "cart", AnnotationGSA, gsa, AnnotationQuotaProject, "q", AnnotationPrincipalEmail, "true", "large", "value")
	ksa := must(parseAccount(metadata)).(*account)
	want := Workload{KSA: ServiceAccount{"shop", "cart", string(metadata.UID)}, GSA: gsa, QuotaProject: "q", PrincipalEmail: true}
	if ksa.Annotations != nil || ksa.workload != want || ksa.err != nil {
		t.Errorf("a KSA is stored with %v, and as %+v, %v", ksa.Annotations, ksa.workload, ksa.err)
	}
}
