package identity

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Workloads are those of the node's pods that have not ended, as far as their KSAs
// are known and rightly annotated, the newest pods first. [Kubernetes.Changed] tells when there are others.
func (k *Kubernetes) Workloads() []Workload {
	var pods []*corev1.Pod
	for _, o := range k.pods.informer.GetStore().List() {
		if pod, ok := o.(*corev1.Pod); ok && alive(pod) {
			pods = append(pods, pod)
		}
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	var list []Workload
	for _, pod := range pods {
		if w, err := k.workload(pod, podOf(pod)); err == nil {
			list = append(list, w)
		}
	}
	return list
}
