package identity

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// attested finds the pod that the kernel attests. The address must not contradict:
// the kernel's record and the address are two proofs, and where they name two pods
// nobody is believed.
func (k *Kubernetes) attested(caller Caller) (*corev1.Pod, error) {
	pod, err := k.attestedPod(caller.PodUID)
	if err != nil || !caller.IP.IsValid() {
		return pod, err
	}
	own := ownIPs(pod)
	if slices.Contains(own, caller.IP.String()) {
		return pod, nil
	}
	others := k.pods.withIP(caller.IP)
	switch {
	case len(others) > 0 && len(own) == 0 && !pod.Spec.HostNetwork:
		// Its address is on the way here; the watch may still have the pod that had
		// the address before.
		return nil, failf(NotReady, "the address of pod %s/%s is not known yet: ask again", pod.Namespace, pod.Name)
	case len(others) > 0:
		return nil, k.mismatch(pod, caller.IP, "of pod "+others[0].Namespace+"/"+others[0].Name)
	case !pod.Spec.HostNetwork && k.pods.isHost(caller.IP):
		return nil, k.mismatch(pod, caller.IP, "of the node")
	}
	// A pod of the node's network, a further network of the pod's, or a pod so new
	// that nobody has announced its address.
	return pod, nil
}

func (k *Kubernetes) attestedPod(uid string) (*corev1.Pod, error) {
	if !isHash(uid) {
		if pod := k.pods.withUID(uid); pod != nil {
			return pod, nil
		}
	} else if pods := k.pods.static(uid); len(pods) == 1 {
		return pods[0], nil
	} else if len(pods) > 1 {
		return nil, failf(Ambiguous, "more than one pod says to mirror the static pod %s of node %s: delete the one that does not", uid, k.node)
	}
	return nil, failf(NotReady, "pod with UID %s is not known on node %s (yet): ask again", uid, k.node)
}

// isHash says whether a UID is a static pod's: it has no dashes.
func isHash(uid string) bool {
	return len(uid) == 32 && strings.Trim(uid, "0123456789abcdef") == ""
}

func (k *Kubernetes) mismatch(pod *corev1.Pod, ip netip.Addr, whose string) *Error {
	err := failf(Mismatch, "the caller is a process of pod %s/%s by its cgroup, but its address %s is %s, so that no identity is given", pod.Namespace, pod.Name, ip, whose)
	k.log.Warn("a pod calls from an address that is not its own", "pod", pod.Namespace+"/"+pod.Name, "address", ip, "belongs", whose)
	return err
}
