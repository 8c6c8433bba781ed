package identity

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// attestedPod finds the pod that the kernel attests. The kernel's record and the source
// address are two proofs. If they name two pods, the caller is refused.
func (k *Kubernetes) attestedPod(caller Caller) (*corev1.Pod, error) {
	pod, err := k.podByAttestedUID(caller.PodUID)
	if err != nil || !caller.IP.IsValid() {
		return pod, err
	}
	podIPs := ownIPs(pod)
	if slices.Contains(podIPs, caller.IP.String()) {
		return pod, nil
	}
	others := k.pods.withIP(caller.IP)
	switch {
	case len(others) > 0 && len(podIPs) == 0 && !pod.Spec.HostNetwork:
		// The watch has not announced the pod's address yet, and can still contain the
		// pod that had the address before.
		return nil, errorf(NotReady, "the address of pod %s/%s is not known yet: retry", pod.Namespace, pod.Name)
	case len(others) > 0:
		return nil, k.mismatch(pod, caller.IP, "of pod "+others[0].Namespace+"/"+others[0].Name)
	case !pod.Spec.HostNetwork && k.pods.isHost(caller.IP):
		return nil, k.mismatch(pod, caller.IP, "of the node")
	}
	// A host-network pod, an additional network of the pod, or a new pod whose address
	// was not announced yet.
	return pod, nil
}

func (k *Kubernetes) podByAttestedUID(uid string) (*corev1.Pod, error) {
	if !isStaticHash(uid) {
		if pod := k.pods.withUID(uid); pod != nil {
			return pod, nil
		}
	} else if pods := k.pods.withStaticHash(uid); len(pods) == 1 {
		return pods[0], nil
	} else if len(pods) > 1 {
		return nil, errorf(Ambiguous, "more than one pod claims to mirror the static pod %s of node %s: delete the pod that does not", uid, k.node)
	}
	return nil, errorf(NotReady, "pod with UID %s is not known on node %s (yet): retry", uid, k.node)
}

// isStaticHash reports whether a UID is the hash of a static pod: it has no dashes.
func isStaticHash(uid string) bool {
	return len(uid) == 32 && strings.Trim(uid, "0123456789abcdef") == ""
}

func (k *Kubernetes) mismatch(pod *corev1.Pod, ip netip.Addr, owner string) *Error {
	k.log.Warn("a pod calls from an address that is not its own", "pod", pod.Namespace+"/"+pod.Name, "address", ip, "belongs", owner)
	return errorf(Mismatch, "the caller is a process of pod %s/%s according to its cgroup, but its address %s is %s; no identity is given", pod.Namespace, pod.Name, ip, owner)
}
