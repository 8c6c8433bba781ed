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

// proved is an attestor that knows the pod by its UID, and the address too.
type proved string

func (p proved) Attest(_ context.Context, c Connection) (Caller, error) {
	return Caller{PodUID: string(p), IP: c.Remote.Addr()}, nil
}

func mirrorOf(hash string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: hash, "other": "x"}
	}
}

func TestKernelAndAddressMustNotContradict(t *testing.T) {
	const hash, twice = "0a1b2c3d4e5f60718293a4b5c6d7e8f9", "ffffffffffffffffffffffffffffffff"
	thief, victim := newPod("shop", "thief", "10.0.0.1"), newPod("shop", "victim", "10.0.0.2")
	agent := newPod("kube-system", "agent", nodeIP, hostNetwork)
	for _, of := range []struct {
		name, uid, ip string
		want          string // the pod
		reason        Reason // or why not
	}{
		{"a pod at its address", "uid of thief", "10.0.0.1", "thief", ""},
		{"a pod at another's address", "uid of thief", "10.0.0.2", "", Mismatch},
		{"a pod at the node's address", "uid of thief", nodeIP, "", Mismatch},
		{"a pod at an address of nobody's", "uid of thief", "10.9.9.9", "thief", ""},
		{"a pod of the node's network", "uid of agent", nodeIP, "agent", ""},
		{"a pod of the node's network at the metadata address", "uid of agent", "169.254.169.254", "agent", ""},
		{"a pod of the node's network at another's address", "uid of agent", "10.0.0.2", "", Mismatch},
		{"a new pod whose address is not announced", "uid of new", "10.0.0.3", "new", ""},
		{"a new pod with the address of one that has just gone", "uid of new", "10.0.0.2", "", NotReady},
		{"a pod that is not announced", "uid of nobody", "10.0.0.1", "", NotReady},
		{"a static pod", hash, nodeIP, "static", ""},
		{"a static pod by its UID of the API server", "uid of static", nodeIP, "static", ""},
		{"a static pod that two say to mirror", twice, nodeIP, "", Ambiguous},
		{"a static pod that is not announced", "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", nodeIP, "", NotReady},
		{"a pod that another says to mirror", "uid of victim", "10.0.0.2", "victim", ""},
	} {
		t.Run(of.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, thief, victim, agent, newPod("shop", "new", ""),
					newPod("kube-system", "static", nodeIP, hostNetwork, mirrorOf(hash)),
					newPod("kube-system", "once", nodeIP, hostNetwork, mirrorOf(twice)), newPod("shop", "again", "10.0.0.8", mirrorOf(twice)),
					newPod("shop", "impostor", "10.0.0.9", mirrorOf("uid of victim"))).run()
				b.attestor = proved(of.uid)
				if of.reason == "" {
					b.wantPodAt(of.ip, of.want)
					return
				}
				_, err := b.podAt(of.ip)
				wantError(t, err, of.reason)
				if n := testutil.ToFloat64(b.metrics.resolutions.WithLabelValues(string(of.reason))); n != 1 {
					t.Errorf("counted %v times", n)
				}
			})
		})
	}
}

// A mirror without a KSA is a kubelet's; all other pods have one.
func TestStaticPodIsToldFromAPodThatSaysToMirrorOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withKSA := func(p *corev1.Pod) { p.Spec.ServiceAccountName = "app" }
		b := newBench(t, newPod("shop", "static", "10.0.0.1", mirrorOf("a")), newPod("shop", "impostor", "10.0.0.2", mirrorOf("b"), withKSA), newPod("shop", "app", "10.0.0.3", withKSA)).run()
		for ip, want := range map[string]bool{"10.0.0.1": true, "10.0.0.2": false, "10.0.0.3": false} {
			if pod, err := b.podAt(ip); err != nil || pod.Static != want {
				t.Errorf("%s: static %t (%v), want %t", pod.Name, pod.Static, err, want)
			}
		}
	})
}

// What the kernel attests needs no confirmation by the API server.
func TestAttestedPodIsNotConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, newPod("shop", "app", "10.0.0.1")).run()
		b.attestor = proved("uid of app")
		b.pods.ClearActions()
		b.wantPodAt("10.0.0.1", "app")
		if asked := b.pods.Actions(); len(asked) > 0 {
			t.Errorf("the API server was asked: %v", asked)
		}
	})
}

// The watch lags: a new pod has the address of one that it still has.
func TestNewPodWithAnAddressThatIsTakenOverIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := newPod("shop", "gone", "10.0.0.1")
		b := newBench(t, gone, newPod("shop", "new", "")).run()
		b.attestor = proved("uid of new")
		go func() {
			time.Sleep(100 * time.Millisecond)
			b.update(newPod("shop", "new", "10.0.0.1", func(p *corev1.Pod) { p.UID = types.UID("uid of new") }))
		}()
		b.wantPodAt("10.0.0.1", "new")
	})
}

// unrecorded is an attestor that knows the address alone, where it should know more.
type unrecorded struct{}

func (unrecorded) Attest(_ context.Context, c Connection) (Caller, error) {
	return Caller{IP: c.Remote.Addr(), Unrecorded: true}, nil
}

// Whoever makes up packets can have any address, but not what the kernel records of
// its sockets. Pods that may have sockets of their own are known by the address.
func TestAddressWithoutARecordIsThatOfAPodWithSocketsOfItsOwn(t *testing.T) {
	can := func(s corev1.SecurityContext) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Spec.Containers = []corev1.Container{{Name: "main"}, {Name: "docker", SecurityContext: &s}}
		}
	}
	adding := func(c corev1.Capability) func(*corev1.Pod) {
		return can(corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{c}}})
	}
	for _, of := range []struct {
		name string
		pod  func(*corev1.Pod)
		want bool
	}{
		{"any pod", func(*corev1.Pod) {}, false},
		{"a runtime of its own", func(pod *corev1.Pod) { pod.Spec.RuntimeClassName = new(string) }, true},
		{"privileged", can(corev1.SecurityContext{Privileged: ptr(true)}), true},
		{"not privileged", can(corev1.SecurityContext{Privileged: ptr(false)}), false},
		{"may translate packets", adding("NET_ADMIN"), true},
		{"may do all", adding("ALL"), true},
		{"may make up packets", adding("NET_RAW"), false},
	} {
		t.Run(of.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, newPod("shop", "cart", "10.0.0.1", of.pod)).run()
				b.attestor = unrecorded{}
				if of.want {
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
