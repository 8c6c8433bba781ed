package identity

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// provedUID is an attestor that returns a pod's UID and the address.
type provedUID string

func (p provedUID) Attest(_ context.Context, c Connection) (Caller, error) {
	return Caller{PodUID: string(p), IP: c.Remote.Addr()}, nil
}

func mirrorOf(hash string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: hash, "other": "x"}
	}
}

func TestAttestedPod_AddressMustNotContradict(t *testing.T) {
	const hash, twice = "0a1b2c3d4e5f60718293a4b5c6d7e8f9", "ffffffffffffffffffffffffffffffff"
	spoofer, victim := newPod("shop", "spoofer", "10.0.0.1"), newPod("shop", "victim", "10.0.0.2")
	agent := newPod("kube-system", "agent", nodeIP, hostNetwork)
	for _, test := range []struct {
		name, uid, ip string
		want          string // name of the pod
		reason        Reason // expected if want is empty
	}{
		{"a pod at its address", "uid of spoofer", "10.0.0.1", "spoofer", ""},
		{"a pod at another's address", "uid of spoofer", "10.0.0.2", "", Mismatch},
		{"a pod at the node's address", "uid of spoofer", nodeIP, "", Mismatch},
		{"a pod at an unused address", "uid of spoofer", "10.9.9.9", "spoofer", ""},
		{"a host-network pod", "uid of agent", nodeIP, "agent", ""},
		{"a host-network pod at the metadata address", "uid of agent", "169.254.169.254", "agent", ""},
		{"a host-network pod at another's address", "uid of agent", "10.0.0.2", "", Mismatch},
		{"a new pod whose address is not announced", "uid of new", "10.0.0.3", "new", ""},
		{"a new pod with the address of a pod that has just gone", "uid of new", "10.0.0.2", "", NotReady},
		{"a pod that is not announced", "uid of nobody", "10.0.0.1", "", NotReady},
		{"a static pod", hash, nodeIP, "static", ""},
		{"a static pod by its UID of the API server", "uid of static", nodeIP, "static", ""},
		{"a static pod that two pods claim to mirror", twice, nodeIP, "", Ambiguous},
		{"a static pod that is not announced", "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", nodeIP, "", NotReady},
		{"a pod that another pod claims to mirror", "uid of victim", "10.0.0.2", "victim", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newFixture(t, spoofer, victim, agent, newPod("shop", "new", ""),
					newPod("kube-system", "static", nodeIP, hostNetwork, mirrorOf(hash)),
					newPod("kube-system", "once", nodeIP, hostNetwork, mirrorOf(twice)), newPod("shop", "second", "10.0.0.8", mirrorOf(twice)),
					newPod("shop", "impostor", "10.0.0.9", mirrorOf("uid of victim"))).run()
				b.attestor = provedUID(test.uid)
				if test.reason == "" {
					b.wantPodAt(test.ip, test.want)
					return
				}
				_, err := b.podAt(test.ip)
				wantError(t, err, test.reason)
				if n := testutil.ToFloat64(b.metrics.resolutions.WithLabelValues(string(test.reason))); n != 1 {
					t.Errorf("counted %v times", n)
				}
			})
		})
	}
}

// A mirror pod of a kubelet has no KSA; all other pods have one.
func TestStaticPod_DiffersFromPodThatClaimsToMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withKSA := func(p *corev1.Pod) { p.Spec.ServiceAccountName = "app" }
		b := newFixture(t, newPod("shop", "static", "10.0.0.1", mirrorOf("a")), newPod("shop", "impostor", "10.0.0.2", mirrorOf("b"), withKSA), newPod("shop", "app", "10.0.0.3", withKSA)).run()
		for ip, want := range map[string]bool{"10.0.0.1": true, "10.0.0.2": false, "10.0.0.3": false} {
			if pod, err := b.podAt(ip); err != nil || pod.Static != want {
				t.Errorf("%s: static %t (%v), want %t", pod.Name, pod.Static, err, want)
			}
		}
	})
}

func TestAttestedPod_NeedsNoConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, newPod("shop", "app", "10.0.0.1")).run()
		b.attestor = provedUID("uid of app")
		b.pods.ClearActions()
		b.wantPodAt("10.0.0.1", "app")
		if requests := b.pods.Actions(); len(requests) > 0 {
			t.Errorf("requests to the API server: %v", requests)
		}
	})
}

// The watch lags: a new pod has the address of a pod that the watch still contains.
func TestAttestedPod_WaitsForReusedAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := newPod("shop", "gone", "10.0.0.1")
		b := newFixture(t, gone, newPod("shop", "new", "")).run()
		b.attestor = provedUID("uid of new")
		go func() {
			time.Sleep(100 * time.Millisecond)
			b.update(newPod("shop", "new", "10.0.0.1", func(p *corev1.Pod) { p.UID = types.UID("uid of new") }))
		}()
		b.wantPodAt("10.0.0.1", "new")
	})
}

// unrecorded is an attestor that finds no record, as for forged packets.
type unrecorded struct{}

func (unrecorded) Attest(_ context.Context, c Connection) (Caller, error) {
	return Caller{IP: c.Remote.Addr(), Unrecorded: true}, nil
}

// A process that forges packets can spoof any address, but the kernel has no record of its
// connection. Only pods whose sockets the kernel cannot see are identified by the address.
func TestUnrecordedCaller_IsOnlyPodWithHiddenSockets(t *testing.T) {
	can := func(s corev1.SecurityContext) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Spec.Containers = []corev1.Container{{Name: "main"}, {Name: "docker", SecurityContext: &s}}
		}
	}
	adding := func(c corev1.Capability) func(*corev1.Pod) {
		return can(corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{c}}})
	}
	for _, test := range []struct {
		name string
		pod  func(*corev1.Pod)
		want bool
	}{
		{"any pod", func(*corev1.Pod) {}, false},
		{"runtime with its own sockets", func(pod *corev1.Pod) { pod.Spec.RuntimeClassName = new(string) }, true},
		{"privileged", can(corev1.SecurityContext{Privileged: ptr(true)}), true},
		{"not privileged", can(corev1.SecurityContext{Privileged: ptr(false)}), false},
		{"can translate packets", adding("NET_ADMIN"), true},
		{"has all capabilities", adding("ALL"), true},
		{"can forge packets", adding("NET_RAW"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newFixture(t, newPod("shop", "cart", "10.0.0.1", test.pod)).run()
				b.attestor = unrecorded{}
				if test.want {
					b.wantPodAt("10.0.0.1", "cart")
					return
				}
				_, err := b.podAt("10.0.0.1")
				wantError(t, err, Unattested, "shop/cart", "runtimeClassName")
			})
		})
	}
}

func ptr[T any](v T) *T { return &v }
