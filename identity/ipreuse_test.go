package identity

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestIPReuse_FinishedPodLosesAddressToNext(t *testing.T) {
	for _, end := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed} {
		synctest.Test(t, func(t *testing.T) {
			b := newFixture(t, newPod("shop", "job", "10.0.0.1")).run()
			b.wantPodAt("10.0.0.1", "job")
			b.update(newPod("shop", "job", "10.0.0.1", phase(end)))
			_, err := b.podAt("10.0.0.1")
			wantError(t, err, Unknown, "no pod on node "+node+" has the address 10.0.0.1")
			b.create(newPod("shop", "next", "10.0.0.1"))
			b.wantPodAt("10.0.0.1", "next")
		})
	}
}

// The watch can lag behind the store.
func TestIPReuse_StoreOverridesWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := newPod("shop", "old", "10.0.0.1", deleting)
		b := newFixture(t, old, newPod("shop", "new", "10.0.0.1"))
		b.watches("pods") // they report no events
		b.run()
		b.delete(old)
		if got := len(b.Kubernetes.pods.withIP(from("10.0.0.1").Remote.Addr())); got != 2 {
			t.Fatalf("the watch has %d pods with the address, want both", got)
		}
		b.wantPodAt("10.0.0.1", "new")
	})
}

func TestIPReuse_AddressOfTwoLivePodsIsAmbiguous(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := newPod("shop", "one", "10.0.0.1")
		b := newFixture(t, one, newPod("shop", "two", "10.0.0.1")).run()
		start := time.Now()
		_, err := b.podAt("10.0.0.1")
		wantError(t, err, Ambiguous, "shop/one", "shop/two", "10.0.0.1")
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("gave up after %s, before an event could resolve it", waited)
		}
		b.delete(one)
		b.wantPodAt("10.0.0.1", "two")
	})
}

func TestPod_WaitsForAnnouncement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t).run()
		go func() {
			time.Sleep(300 * time.Millisecond)
			b.create(newPod("shop", "early", ""))
			time.Sleep(300 * time.Millisecond)
			b.update(newPod("shop", "early", "10.0.0.1"))
		}()
		start := time.Now()
		b.wantPodAt("10.0.0.1", "early")
		if waited := time.Since(start); waited != 600*time.Millisecond {
			t.Errorf("known after %s, want 600ms", waited)
		}
	})
}

func TestSourceIP_RefusesHostNetworkPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, newPod("shop", "pod", "10.0.0.1", ips("2001:db8::1")),
			newPod("kube-system", "agent", nodeIP, hostNetwork, ips(nodeIP, "2001:db8:ffff::1"))).run()
		start := time.Now()
		for _, ip := range []string{nodeIP, "::ffff:" + nodeIP, "2001:db8:ffff::1"} {
			_, err := b.podAt(ip)
			wantError(t, err, HostNetwork, "without hostNetwork")
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("it took %s: no event can change this", waited)
		}
	})
}

// The kernel uses the destination as the source on its local routes.
func TestSourceIP_RefusesConnectionFromItsOwnDestination(t *testing.T) {
	for _, ip := range []string{"169.254.169.254", "::ffff:169.254.169.254", "fd20:ce::254"} {
		at := netip.AddrPortFrom(netip.MustParseAddr(ip), 80)
		_, err := SourceIP(Connection{Remote: netip.AddrPortFrom(at.Addr().Unmap(), 40000), Local: at})
		wantError(t, err, HostNetwork)
	}
}

func TestPod_IsFoundByEachAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, newPod("shop", "dual", "10.0.0.1", ips("10.0.0.1", "2001:0DB8:0::0:1")), newPod("shop", "other", "10.0.0.2")).run()
		for _, ip := range []string{"10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1"} {
			b.wantPodAt(ip, "dual")
		}
	})
}

// A pod of the same name is another pod.
func TestPod_RecreatedPodDoesNotInheritConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newPod("shop", "app", "10.0.0.1")
		b := newFixture(t, first, newAccount("shop", "default")).run()
		pod := b.wantPodAt("10.0.0.1", "app")
		if _, err := b.workload(pod); err != nil {
			t.Fatal(err)
		}
		b.delete(first)
		b.create(newPod("shop", "app", "10.0.0.1", func(p *corev1.Pod) { p.UID = "another" }))
		start := time.Now()
		_, err := b.workload(pod)
		wantError(t, err, Gone, "pod shop/app has ended")
		if waited := time.Since(start); waited != 0 {
			t.Errorf("it took %s", waited)
		}
	})
}

// uidOnly is an attestor that returns a pod's UID without an address.
type uidOnly string

func (uid uidOnly) Attest(context.Context, Connection) (Caller, error) {
	return Caller{PodUID: string(uid)}, nil
}

func TestAttestedPod_NeedsNoAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, newPod("shop", "spoofer", "10.0.0.1"), newPod("shop", "victim", "10.0.0.2"), newPod("kube-system", "agent", nodeIP, hostNetwork)).run()
		for _, name := range []string{"spoofer", "agent"} {
			b.attestor = uidOnly("uid of " + name)
			b.wantPodAt("10.0.0.2", name)
		}
		b.attestor = uidOnly("uid of nobody")
		_, err := b.podAt("10.0.0.2")
		wantError(t, err, NotReady, "uid of nobody")
	})
}
