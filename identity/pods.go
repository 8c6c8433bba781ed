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
	byIP        = "ip"        // the addresses of pods that have a network of their own
	byHostIP    = "hostIP"    // the node's addresses, as the pods on it know them
	byUID       = "uid"       // pods that have not ended
	byHash      = "hash"      // the same, static ones, by the hash of their files
	byNamespace = "namespace" // pods that have not ended
)

// podWatch is the pods of one node: one watch, filtered by the API server.
type podWatch struct {
	informer cache.SharedIndexInformer
}

func newPodWatch(pods cache.ListerWatcher, changed func(), failed func(error)) (*podWatch, error) {
	w := &podWatch{informer: cache.NewSharedIndexInformer(pods, &corev1.Pod{}, 0, cache.Indexers{
		byIP:        index(alive, ownIPs),
		byUID:       index(alive, func(p *corev1.Pod) []string { return []string{string(p.UID)} }),
		byHash:      index(alive, staticHash),
		byNamespace: index(alive, func(p *corev1.Pod) []string { return []string{p.Namespace} }),
		byHostIP:    index(anyPod, nodeIPs),
	})}
	if err := w.informer.SetTransform(slimPod); err != nil {
		return nil, fmt.Errorf("pod watch: %w", err)
	}
	return w, observe(w.informer, changed, failed)
}

func index(has func(*corev1.Pod) bool, values func(*corev1.Pod) []string) cache.IndexFunc {
	return func(o any) ([]string, error) {
		pod, ok := o.(*corev1.Pod)
		if !ok || !has(pod) {
			return nil, nil
		}
		return values(pod), nil
	}
}

// observe calls changed after each event of an informer and failed after each
// error of its list or watch, which the informer retries with a jittered back-off.
// The handlers read nothing from what they are given, so that the tombstone of a
// delete that the watch missed is an event like any other.
func observe(informer cache.SharedIndexInformer, changed func(), failed func(error)) error {
	if err := informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { failed(err) }); err != nil {
		return fmt.Errorf("informer: %w", err)
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changed() },
		UpdateFunc: func(any, any) { changed() },
		DeleteFunc: func(any) { changed() },
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

// static is the pods that say to mirror the static pod of a hash.
func (w *podWatch) static(hash string) []*corev1.Pod { return w.indexed(byHash, hash) }

func (w *podWatch) isHost(ip netip.Addr) bool { return len(w.indexed(byHostIP, ip.String())) > 0 }

// namespaces are those with a pod here that has not ended.
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

// alive says whether a pod may still hold its address and its identity: a pod
// that is being deleted does, until its sandbox has ended, because its shutdown
// hooks run until then; one that has succeeded or failed does not, because its
// address is free for others at once.
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

// ownIPs are the addresses of a pod that has a network of its own.
func ownIPs(pod *corev1.Pod) []string {
	if pod.Spec.HostNetwork {
		return nil
	}
	return podIPs(pod)
}

// nodeIPs are the addresses of the node, as a pod on it knows them.
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

// appendIP adds an address once, in the spelling that a connection's has.
func appendIP(ips []string, s string) []string {
	ip, err := netip.ParseAddr(s)
	if err != nil || slices.Contains(ips, ip.Unmap().String()) {
		return ips
	}
	return append(ips, ip.Unmap().String())
}

// staticHash is the hash of a static pod's file, under which the kubelet runs it.
// The API server has a mirror of the pod, with another UID and this annotation.
func staticHash(pod *corev1.Pod) []string {
	if hash, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return []string{hash}
	}
	return nil
}

// slimPod drops what nobody here reads before the pod is stored.
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
		if mayTranslate(c) {
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

// hidesSockets says whether connections of the pod may be none of the kernel's: its
// runtime has sockets of its own (gVisor, Kata), or it may have containers within
// it whose packets it translates (Docker in a pod).
func hidesSockets(pod *corev1.Pod) bool {
	return pod.Spec.RuntimeClassName != nil || slices.ContainsFunc(pod.Spec.Containers, mayTranslate)
}

func mayTranslate(c corev1.Container) bool {
	s := c.SecurityContext
	return s != nil && (s.Privileged != nil && *s.Privileged ||
		s.Capabilities != nil && (slices.Contains(s.Capabilities.Add, "NET_ADMIN") || slices.Contains(s.Capabilities.Add, "ALL")))
}

func podOf(pod *corev1.Pod) Pod {
	static := len(staticHash(pod)) > 0 && pod.Spec.ServiceAccountName == "" // which only a kubelet can make
	return Pod{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), Static: static}
}
