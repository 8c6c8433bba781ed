package attest

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/identity"
)

// Both call from the node's address, so that by it they look alike.
func TestHostNetworkPodsHaveTheirOwnIdentities(t *testing.T) {
	for name, o := range map[string]benchOptions{
		"by the kernel's records": {policy: Require},
		"by their sockets":        {policy: Require, noRecorder: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, o)
			for _, pod := range []struct {
				uid string
			}{{cart}, {bill}, {cart}} {
				cgroup := b.cart
				if pod.uid == bill {
					cgroup = b.bill
				}
				for _, family := range []string{"4", "6"} {
					if _, err := cgroup.Start(t).Connect(family, "-", metadata); err != nil {
						t.Fatal(err)
					}
					b.wantPod(b.accept(), pod.uid)
				}
			}
		})
	}
}

func TestPodInItsOwnNetworkIsAttested(t *testing.T) {
	b := newBench(t, benchOptions{policy: Require})
	b.node.NewPod(t, "cart0", "10.244.0.1", "10.244.0.7").Enter(t)
	p := b.cart.Start(t)
	for _, family := range []string{"4", "6"} {
		if _, err := p.Connect(family, "-", metadata); err != nil {
			t.Fatal(err)
		}
		c := b.accept()
		if got := connection(c).Remote.Addr().String(); got != "10.244.0.7" {
			t.Errorf("the pod comes from %s", got)
		}
		b.wantPod(c, cart)
	}
	b.wantProofs(map[string]int{"record": 2, "none": 0})
}

func TestMultipathTCPIsAttested(t *testing.T) {
	b := newBench(t, benchOptions{policy: Require})
	_, err := b.cart.Start(t).Connect("multipath", "-", metadata)
	if err != nil && strings.Contains(err.Error(), "protocol not") {
		t.Skipf("this kernel has no Multipath TCP: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.wantPod(b.accept(), cart)
}

// For who asks why a pod has the identity that it has.
func TestDebugLogSaysHowEachConnectionIsProved(t *testing.T) {
	for _, of := range []struct {
		noRecorder bool
		want       string
	}{{false, "proof=record pod=" + cart}, {true, "proof=socket pod=" + cart}} {
		b := newBench(t, benchOptions{policy: Prefer, noRecorder: of.noRecorder})
		var logged strings.Builder
		b.log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
		b.cart.Start(t).MustConnect(metadata)
		c := b.accept()
		if want := "msg=connection source=" + c.RemoteAddr().String() + " " + of.want + "\n"; !strings.HasSuffix(logged.String(), want) {
			t.Errorf("%q, want %q", logged.String(), want)
		}
	}
}

func TestProcessOfNoPodIsRefused(t *testing.T) {
	for _, policy := range []Policy{Require, Prefer} {
		b := newBench(t, benchOptions{policy: policy})
		b.root.NewChild(t, "system.slice/sshd.service").Start(t).MustConnect(metadata)
		b.wantRefused(b.accept(), identity.NotAPod, "system.slice/sshd.service: only pods get an identity")
		b.wantProofs(map[string]int{"no_pod": 1})
	}
}

// A user may have cgroups of his own, and name them as he likes.
func TestUsersCgroupThatIsNamedLikeAPodIsNone(t *testing.T) {
	b := newBench(t, benchOptions{policy: Prefer})
	b.root.NewChild(t, "user.slice/user@1000.service/kubepods/burstable/pod"+cart+"/x").Start(t).MustConnect(metadata)
	b.wantRefused(b.accept(), identity.NotAPod, "user.slice")
	b.cart.NewChild(t, "kubepods/burstable/pod"+bill).Start(t).MustConnect(metadata)
	b.wantPod(b.accept(), cart)
}

// The record is of the moment; who calls is kept with the connection.
func TestConnectionKeepsItsIdentityForAsLongAsItLives(t *testing.T) {
	b := newBench(t, benchOptions{policy: Require, size: 4})
	b.cart.Start(t).MustConnect(metadata)
	long := b.accept()
	b.wantPod(long, cart)
	p := b.bill.Start(t)
	for range 50 {
		s := p.MustConnect(metadata)
		c := b.accept()
		b.wantPod(c, bill)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	b.wantPod(long, cart)
	if n := b.recorder.Lost(); n != 0 {
		t.Errorf("%d records were lost", n)
	}
}

// Connections that wait to be accepted fill the map.
func TestFullMapGivesNoIdentityAndNeverAnothers(t *testing.T) {
	const size, each = 4, 5
	for policy, check := range map[Policy]func(*bench, int){
		Require: func(b *bench, unproved int) { b.wantProofs(map[string]int{"record": size, "none": unproved}) },
		Prefer:  func(b *bench, unproved int) { b.wantProofs(map[string]int{"record": size, "none": unproved}) },
	} {
		t.Run(string(policy), func(t *testing.T) {
			b := newBench(t, benchOptions{policy: policy, size: size})
			pods := map[string]string{"10.244.0.7": cart, "10.244.0.8": bill}
			b.node.NewPod(t, "cart0", "10.244.0.1", "10.244.0.7").Enter(t)
			first := b.cart.Start(t)
			b.node.Enter(t)
			b.node.NewPod(t, "bill0", "10.244.0.1", "10.244.0.8").Enter(t)
			second := b.bill.Start(t)
			for range each {
				first.MustConnect(metadata)
				second.MustConnect(metadata)
			}
			for range 2 * each {
				c := b.accept()
				caller, err := c.(identity.Attested).Caller()
				from := connection(c).Remote.Addr().String()
				switch {
				case err == nil && caller.PodUID == "" && policy == Prefer: // by its address
				case err == nil && caller.PodUID == pods[from]:
				case err != nil && policy == Require:
					b.wantRefused(c, identity.Unattested, "--attestation=require")
				default:
					t.Errorf("from %s: %+v, %v", from, caller, err)
				}
			}
			check(b, 2*each-size)
			if n := b.recorder.Lost(); n != 2*each-size {
				t.Errorf("%d records are counted as lost, want %d", n, 2*each-size)
			}
		})
	}
}

// What nobody accepted must not stay, nor what was accepted.
func TestRecordEndsWithItsConnection(t *testing.T) {
	for title, atOnce := range map[string]bool{"in one step": true, "in two, as before Linux 5.14": false} {
		t.Run(title, func(t *testing.T) {
			b := newBench(t, benchOptions{policy: Require})
			if b.recorder.atOnce != atOnce && atOnce {
				t.Skip("this kernel is older than Linux 5.14")
			}
			b.recorder.atOnce = atOnce
			recordEnds(t, b)
		})
	}
}

func recordEnds(t *testing.T, b *bench) {
	p := b.cart.Start(t)
	waiting := p.MustConnect(metadata)
	if n := b.records(); n != 1 {
		t.Errorf("%d records of a connection that waits", n)
	}
	c := b.accept()
	if n := b.records(); n != 0 {
		t.Errorf("%d records of an accepted connection", n)
	}
	b.wantPod(c, cart)
	_ = c.Close()
	if err := waiting.Close(); err != nil {
		t.Fatal(err)
	}
	s := p.MustConnect(metadata)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_ = b.accept().Close() // to both ends
	for deadline := time.Now().Add(time.Minute); b.records() != 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := b.records(); n != 0 {
		t.Errorf("%d records of connections that are closed", n)
	}
}

// A record that stays after the server has closed could be taken up by who sends
// from the same address and port.
func TestRecordEndsWhenTheServerHasClosed(t *testing.T) {
	b := newBench(t, benchOptions{policy: Require})
	b.cart.Start(t).MustConnect(metadata)
	unattested, err := b.listener.(listener).Listener.Accept() // another instance's, say
	if err != nil {
		t.Fatal(err)
	}
	if n := b.records(); n != 1 {
		t.Fatalf("%d records", n)
	}
	_ = unattested.Close()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if b.records() == 0 {
			return
		}
	}
	t.Error("the record of a connection that the server has closed is still there")
}

func TestOtherConnectionsAreNotRecorded(t *testing.T) {
	b := newBench(t, benchOptions{policy: Require})
	b.node.AddAddress(t, "192.0.2.7/32")
	other := listen(t, "192.0.2.7:80")
	p := b.cart.Start(t)
	p.MustConnect("192.0.2.7:80")
	if n := b.records(); n != 0 {
		t.Errorf("%d records", n)
	}
	_ = other
}

func TestContainerThatHasEndedIsSaidSo(t *testing.T) {
	b := newBench(t, benchOptions{policy: Prefer})
	container := b.cart.NewChild(t, "shortlived")
	p := container.Start(t)
	p.MustConnect(metadata)
	p.Move(b.cart) // its socket stays open
	remove(t, string(container))
	b.wantRefused(b.accept(), identity.Gone, "its container has ended")
}

// The caller resets a connection and connects from the same port before the server
// has closed its end of the old one.
func TestProof_IsKeptWhenAnOldConnectionOfTheSameAddressesCloses(t *testing.T) {
	for _, policy := range []Policy{Require, Prefer} {
		b := newBench(t, benchOptions{policy: policy})
		b.node.NewPod(t, "cart0", "10.244.0.1", "10.244.0.7").Enter(t)
		const from = "10.244.0.7:40007"
		old, err := b.cart.Start(t).Connect("4", from, metadata)
		if err != nil {
			t.Fatal(err)
		}
		replaced := b.accept()
		if err := old.Reset(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.bill.Start(t).Connect("4", from, metadata); err != nil {
			t.Fatal(err)
		}
		c := b.accept()
		if c.RemoteAddr().String() != from || replaced.RemoteAddr().String() != from {
			t.Fatalf("the connections come from %s and %s, want both from %s", replaced.RemoteAddr(), c.RemoteAddr(), from)
		}
		b.wantPod(c, bill)
		b.wantPod(replaced, cart)
		_ = replaced.Close()
		b.wantPod(c, bill)
	}
}

func BenchmarkAttestation(b *testing.B) {
	for name, o := range map[string]benchOptions{"record": {policy: Require}, "socket": {policy: Require, noRecorder: true}} {
		b.Run(name, func(b *testing.B) {
			n := newBench(b, o)
			p := n.cart.Start(b)
			var took time.Duration
			for b.Loop() {
				s := p.MustConnect(metadata)
				c, err := n.listener.(listener).Listener.Accept()
				if err != nil {
					b.Fatal(err)
				}
				tuple := clientTuple(c, connection(c))
				start := time.Now()
				if got := n.prove(tuple, connection(c)); got.podUID != cart {
					b.Fatal(fmt.Sprint(got))
				}
				took += time.Since(start)
				_ = c.Close()
				_ = s.Close()
			}
			b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns/proof")
		})
	}
}
