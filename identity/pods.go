package identity

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

const (
	byIP        = "ip"        // the addresses of pods that are not in the host network
	byHostIP    = "hostIP"    // the node's addresses, from the status of its pods
	byUID       = "uid"       // pods that have not ended
	byHash      = "hash"      // static pods that have not ended, by the hash of their files
	byNamespace = "namespace" // pods that have not ended
)

// podWatch watches the pods of one node. The API server selects them.
type podWatch struct {
	informer cache.SharedIndexInformer
}

func newPodWatch(pods cache.ListerWatcher, onChange func(), onError func(error)) (*podWatch, error) {
	w := &podWatch{informer: cache.NewSharedIndexInformer(pods, &corev1.Pod{}, 0, cache.Indexers{
		byIP:        indexPods(alive, ownIPs),
		byUID:       indexPods(alive, func(p *corev1.Pod) []string { return []string{string(p.UID)} }),
		byHash:      indexPods(alive, staticHash),
		byNamespace: indexPods(alive, func(p *corev1.Pod) []string { return []string{p.Namespace} }),
		byHostIP:    indexPods(anyPod, nodeIPs),
	})}
	if err := w.informer.SetTransform(slimPod); err != nil {
		return nil, fmt.Errorf("pod watch: %w", err)
	}
	return w, observe(w.informer, onChange, onError)
}

func indexPods(include func(*corev1.Pod) bool, values func(*corev1.Pod) []string) cache.IndexFunc {
	return func(o any) ([]string, error) {
		pod, ok := o.(*corev1.Pod)
		if !ok || !include(pod) {
			return nil, nil
		}
		return values(pod), nil
	}
}

// observe calls onChange after each event of an informer, and onError after each error of
// its list or watch, which the informer retries with a jittered back-off. The handlers do
// not read the objects, so the tombstone of a missed delete is an ordinary event.
func observe(informer cache.SharedIndexInformer, onChange func(), onError func(error)) error {
	if err := informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { onError(err) }); err != nil {
		return fmt.Errorf("informer: %w", err)
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { onChange() },
		UpdateFunc: func(any, any) { onChange() },
		DeleteFunc: func(any) { onChange() },
	}); err != nil {
		return fmt.Errorf("informer: %w", err)
	}
	return nil
}

func (w *podWatch) withIP(ip netip.Addr) []*corev1.Pod { return w.indexed(byIP, ip.String()) }

func (w *podWatch) withUID(uid string) *corev1.Pod {
	if pods := w.indexed(byUID, uid); len(pods) > 0 {
		return pods[0]
	}
	return nil
}

// withStaticHash returns the pods that claim to mirror the static pod of a hash.
func (w *podWatch) withStaticHash(hash string) []*corev1.Pod { return w.indexed(byHash, hash) }

func (w *podWatch) isHost(ip netip.Addr) bool { return len(w.indexed(byHostIP, ip.String())) > 0 }

// namespaces returns the namespaces of the pods that have not ended.
func (w *podWatch) namespaces() []string {
	return w.informer.GetIndexer().ListIndexFuncValues(byNamespace)
}

func (w *podWatch) indexed(index, value string) []*corev1.Pod {
	objects, err := w.informer.GetIndexer().ByIndex(index, value)
	if err != nil { // only for an index that does not exist
		return nil
	}
	pods := make([]*corev1.Pod, len(objects))
	for i, o := range objects {
		pods[i] = o.(*corev1.Pod)
	}
	return pods
}

// alive reports whether a pod can still have its address and its identity. A pod that is
// being deleted has them until its sandbox has ended, because its shutdown hooks run until
// then. A pod that has succeeded or failed has lost them, because its address is free for
// other pods at once.
func alive(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return false
	}
	return pod.DeletionTimestamp == nil || !sandboxEnded(pod)
}

func sandboxEnded(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReadyToStartContainers {
			return c.Status == corev1.ConditionFalse
		}
	}
	return false
}

func anyPod(*corev1.Pod) bool { return true }

// ownIPs returns the addresses of a pod; none if it is in the host network.
func ownIPs(pod *corev1.Pod) []string {
	if pod.Spec.HostNetwork {
		return nil
	}
	return podIPs(pod)
}

// nodeIPs returns the addresses of the node, from the status of a pod.
func nodeIPs(pod *corev1.Pod) []string {
	ips := appendIP(nil, pod.Status.HostIP)
	for _, ip := range pod.Status.HostIPs {
		ips = appendIP(ips, ip.IP)
	}
	if pod.Spec.HostNetwork {
		ips = append(ips, podIPs(pod)...)
	}
	return ips
}

func podIPs(pod *corev1.Pod) []string {
	ips := appendIP(nil, pod.Status.PodIP)
	for _, ip := range pod.Status.PodIPs {
		ips = appendIP(ips, ip.IP)
	}
	return ips
}

// appendIP adds an address once, in the canonical form that connections have.
func appendIP(ips []string, s string) []string {
	ip, err := netip.ParseAddr(s)
	if err != nil || slices.Contains(ips, ip.Unmap().String()) {
		return ips
	}
	return append(ips, ip.Unmap().String())
}

// staticHash returns the hash of a static pod's file. It is the pod's UID for the kubelet;
// the mirror pod of the API server has another UID, and the hash in an annotation.
func staticHash(pod *corev1.Pod) []string {
	if hash, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return []string{hash}
	}
	return nil
}

// slimPod is the transform of the watch: it drops all fields that nothing here reads.
func slimPod(o any) (any, error) {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil // a tombstone
	}
	slim := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
			ResourceVersion: pod.ResourceVersion, CreationTimestamp: pod.CreationTimestamp, DeletionTimestamp: pod.DeletionTimestamp,
		},
		Spec: corev1.PodSpec{ServiceAccountName: pod.Spec.ServiceAccountName, HostNetwork: pod.Spec.HostNetwork, RuntimeClassName: pod.Spec.RuntimeClassName},
		Status: corev1.PodStatus{
			Phase: pod.Status.Phase,
			PodIP: pod.Status.PodIP, PodIPs: pod.Status.PodIPs,
			HostIP: pod.Status.HostIP, HostIPs: pod.Status.HostIPs,
		},
	}
	for _, c := range pod.Spec.Containers {
		if canTranslate(c) {
			slim.Spec.Containers = append(slim.Spec.Containers, corev1.Container{SecurityContext: c.SecurityContext})
		}
	}
	if hash, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		slim.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: hash}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReadyToStartContainers {
			slim.Status.Conditions = []corev1.PodCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return slim, nil
}

// hidesSockets reports whether the node's kernel can be without a socket for a connection
// of the pod: its runtime has sockets of its own (gVisor, Kata), or the pod can translate
// the packets of nested containers (Docker in a pod).
func hidesSockets(pod *corev1.Pod) bool {
	return pod.Spec.RuntimeClassName != nil || slices.ContainsFunc(pod.Spec.Containers, canTranslate)
}

func canTranslate(c corev1.Container) bool {
	s := c.SecurityContext
	return s != nil && (s.Privileged != nil && *s.Privileged ||
		s.Capabilities != nil && (slices.Contains(s.Capabilities.Add, "NET_ADMIN") || slices.Contains(s.Capabilities.Add, "ALL")))
}

func callerPod(pod *corev1.Pod) Pod {
	static := len(staticHash(pod)) > 0 && pod.Spec.ServiceAccountName == "" // only a kubelet can create such a pod
	return Pod{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), Static: static}
}
