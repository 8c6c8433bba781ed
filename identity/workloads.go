package identity

import corev1 "k8s.io/api/core/v1"

// Workloads are those of the node's pods that have not ended, as far as their KSAs
// are known and rightly annotated. [Kubernetes.Changed] tells when there are others.
func (k *Kubernetes) Workloads() []Workload {
	var list []Workload
	for _, o := range k.pods.informer.GetStore().List() {
		pod, ok := o.(*corev1.Pod)
		if !ok || !alive(pod) {
			continue
		}
		if w, err := k.workload(pod, podOf(pod)); err == nil {
			list = append(list, w)
		}
	}
	return list
}
