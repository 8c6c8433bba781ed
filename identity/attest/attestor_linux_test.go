package attest

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"gke-metadata-emulator/identity"
)

// Both pods call from the node's address, so the address does not distinguish them.
func TestAttestor_DistinguishesHostNetworkPods(t *testing.T) {
	for name, o := range map[string]fixtureOptions{
		"kernel records": {policy: Require},
		"sockets":        {policy: Require, noRecorder: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, o)
			for _, pod := range []struct {
				uid string
			}{{cart}, {bill}, {cart}} {
				cgroup := f.cart
				if pod.uid == bill {
					cgroup = f.bill
				}
				for _, family := range []string{"4", "6"} {
					if _, err := cgroup.Start(t).Connect(family, "-", metadata); err != nil {
						t.Fatal(err)
					}
					f.wantPod(f.accept(), pod.uid)
				}
			}
		})
	}
}

func TestAttestor_AttestsPodInOwnNetwork(t *testing.T) {
	f := newFixture(t, fixtureOptions{policy: Require})
	f.node.NewPod(t, "cart0", "10.244.0.1", "10.244.0.7").Enter(t)
	p := f.cart.Start(t)
	for _, family := range []string{"4", "6"} {
		if _, err := p.Connect(family, "-", metadata); err != nil {
			t.Fatal(err)
		}
		c := f.accept()
		if got := connection(c).Remote.Addr().String(); got != "10.244.0.7" {
			t.Errorf("the pod's connection comes from %s, want 10.244.0.7", got)
		}
		f.wantPod(c, cart)
	}
	f.wantProofs(map[string]int{"record": 2, "none": 0})
}

func TestAttestor_AttestsMultipathTCP(t *testing.T) {
	f := newFixture(t, fixtureOptions{policy: Require})
	_, err := f.cart.Start(t).Connect("multipath", "-", metadata)
	if err != nil && strings.Contains(err.Error(), "protocol not") {
		t.Skipf("this kernel has no Multipath TCP: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.wantPod(f.accept(), cart)
}

// Operators use this log to find out why a pod has its identity.
func TestDebugLog_NamesProofOfEachConnection(t *testing.T) {
	for _, test := range []struct {
		noRecorder bool
		want       string
	}{{false, "proof=record pod=" + cart}, {true, "proof=socket pod=" + cart}} {
		f := newFixture(t, fixtureOptions{policy: Prefer, noRecorder: test.noRecorder})
		var logged strings.Builder
		f.log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
		f.cart.Start(t).MustConnect(metadata)
		c := f.accept()
		if want := "msg=connection source=" + c.RemoteAddr().String() + " " + test.want + "\n"; !strings.HasSuffix(logged.String(), want) {
			t.Errorf("%q, want %q", logged.String(), want)
		}
	}
}

func TestAttestor_RefusesProcessOutsidePods(t *testing.T) {
	for _, policy := range []Policy{Require, Prefer} {
		f := newFixture(t, fixtureOptions{policy: policy})
		f.root.NewChild(t, "system.slice/sshd.service").Start(t).MustConnect(metadata)
		f.wantRefused(f.accept(), identity.NotAPod, "system.slice/sshd.service: only pods get an identity")
		f.wantProofs(map[string]int{"no_pod": 1})
	}
}

// Users can have cgroups of their own and choose the names.
func TestAttestor_IgnoresUserCgroupWithPodName(t *testing.T) {
	f := newFixture(t, fixtureOptions{policy: Prefer})
	f.root.NewChild(t, "user.slice/user@1000.service/kubepods/burstable/pod"+cart+"/x").Start(t).MustConnect(metadata)
	f.wantRefused(f.accept(), identity.NotAPod, "user.slice")
	f.cart.NewChild(t, "kubepods/burstable/pod"+bill).Start(t).MustConnect(metadata)
	f.wantPod(f.accept(), cart)
}

// The kernel's record is removed when it is read. The connection keeps its pod.
func TestConnection_KeepsItsIdentity(t *testing.T) {
	f := newFixture(t, fixtureOptions{policy: Require, size: 4})
	f.cart.Start(t).MustConnect(metadata)
	long := f.accept()
	f.wantPod(long, cart)
	p := f.bill.Start(t)
	for range 50 {
		s := p.MustConnect(metadata)
		c := f.accept()
		f.wantPod(c, bill)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	f.wantPod(long, cart)
	if n := f.recorder.Lost(); n != 0 {
		t.Errorf("%d records were lost, want none", n)
	}
}

// Connections that wait to be accepted fill the map.
func TestRecorder_FullMapNeverYieldsAnotherPodsIdentity(t *testing.T) {
	const size, each = 4, 5
	for policy, check := range map[Policy]func(*fixture, int){
		Require: func(f *fixture, unproved int) { f.wantProofs(map[string]int{"record": size, "none": unproved}) },
		Prefer:  func(f *fixture, unproved int) { f.wantProofs(map[string]int{"record": size, "none": unproved}) },
	} {
		t.Run(string(policy), func(t *testing.T) {
			f := newFixture(t, fixtureOptions{policy: policy, size: size})
			pods := map[string]string{"10.244.0.7": cart, "10.244.0.8": bill}
			f.node.NewPod(t, "cart0", "10.244.0.1", "10.244.0.7").Enter(t)
			first := f.cart.Start(t)
			f.node.Enter(t)
			f.node.NewPod(t, "bill0", "10.244.0.1", "10.244.0.8").Enter(t)
			second := f.bill.Start(t)
			for range each {
				first.MustConnect(metadata)
				second.MustConnect(metadata)
			}
			for range 2 * each {
				c := f.accept()
				caller, err := c.(identity.Attested).Caller()
				from := connection(c).Remote.Addr().String()
				switch {
				case err == nil && caller.PodUID == "" && policy == Prefer: // identified by its address
				case err == nil && caller.PodUID == pods[from]:
				case err != nil && policy == Require:
					f.wantRefused(c, identity.Unattested, "--attestation=require")
				default:
					t.Errorf("from %s: %+v, %v", from, caller, err)
				}
			}
			check(f, 2*each-size)
			if n := f.recorder.Lost(); n != 2*each-size {
				t.Errorf("%d records were counted as lost, want %d", n, 2*each-size)
			}
		})
	}
}

// The record must not outlive its connection, whether the connection was accepted or not.
func TestRecord_EndsWithItsConnection(t *testing.T) {
	for title, atOnce := range map[string]bool{"in one step": true, "in two steps, as before Linux 5.14": false} {
		t.Run(title, func(t *testing.T) {
			f := newFixture(t, fixtureOptions{policy: Require})
			if f.recorder.atOnce != atOnce && atOnce {
				t.Skip("this kernel is older than Linux 5.14")
			}
			f.recorder.atOnce = atOnce
			recordEnds(t, f)
		})
	}
}

func recordEnds(t *testing.T, f *fixture) {
	p := f.cart.Start(t)
	waiting := p.MustConnect(metadata)
	if n := f.records(); n != 1 {
		t.Errorf("%d records of a waiting connection, want 1", n)
	}
	c := f.accept()
	if n := f.records(); n != 0 {
		t.Errorf("%d records of an accepted connection, want 0", n)
	}
	f.wantPod(c, cart)
	_ = c.Close()
	if err := waiting.Close(); err != nil {
		t.Fatal(err)
	}
	s := p.MustConnect(metadata)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_ = f.accept().Close() // to both ends
	for deadline := time.Now().Add(time.Minute); f.records() != 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := f.records(); n != 0 {
		t.Errorf("%d records of closed connections, want 0", n)
	}
}

// A record that outlives the server's end could be used by a later connection from the
// same address and port.
func TestRecord_EndsWhenServerCloses(t *testing.T) {
	f := newFixture(t, fixtureOptions{policy: Require})
	f.cart.Start(t).MustConnect(metadata)
	unattested, err := f.listener.(listener).Listener.Accept() // as by an instance without attestation
	if err != nil {
		t.Fatal(err)
	}
	if n := f.records(); n != 1 {
		t.Fatalf("%d records of a connection without attestation, want 1", n)
	}
	_ = unattested.Close()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if f.records() == 0 {
			return
		}
	}
	t.Error("the record of a connection that the server closed still exists")
}

func TestRecorder_IgnoresOtherDestinations(t *testing.T) {
	f := newFixture(t, fixtureOptions{policy: Require})
	f.node.AddAddress(t, "192.0.2.7/32")
	other := listen(t, "192.0.2.7:80")
	p := f.cart.Start(t)
	p.MustConnect("192.0.2.7:80")
	if n := f.records(); n != 0 {
		t.Errorf("%d records of a connection to another destination, want 0", n)
	}
	_ = other
}

func TestAttestor_ReportsEndedContainer(t *testing.T) {
	f := newFixture(t, fixtureOptions{policy: Prefer})
	container := f.cart.NewChild(t, "shortlived")
	p := container.Start(t)
	p.MustConnect(metadata)
	p.Move(f.cart) // its socket stays open
	remove(t, string(container))
	f.wantRefused(f.accept(), identity.Gone, "its container has ended")
}

// The caller resets a connection and connects from the same port before the server
// has closed its end of the old one.
func TestProof_SurvivesCloseOfOldConnectionWithSameAddresses(t *testing.T) {
	for _, policy := range []Policy{Require, Prefer} {
		f := newFixture(t, fixtureOptions{policy: policy})
		f.node.NewPod(t, "cart0", "10.244.0.1", "10.244.0.7").Enter(t)
		const from = "10.244.0.7:40007"
		old, err := f.cart.Start(t).Connect("4", from, metadata)
		if err != nil {
			t.Fatal(err)
		}
		replaced := f.accept()
		if err := old.Reset(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.bill.Start(t).Connect("4", from, metadata); err != nil {
			t.Fatal(err)
		}
		c := f.accept()
		if c.RemoteAddr().String() != from || replaced.RemoteAddr().String() != from {
			t.Fatalf("the connections come from %s and %s, want both from %s", replaced.RemoteAddr(), c.RemoteAddr(), from)
		}
		f.wantPod(c, bill)
		f.wantPod(replaced, cart)
		_ = replaced.Close()
		f.wantPod(c, bill)
	}
}

func BenchmarkAttestation(b *testing.B) {
	for name, o := range map[string]fixtureOptions{"record": {policy: Require}, "socket": {policy: Require, noRecorder: true}} {
		b.Run(name, func(b *testing.B) {
			n := newFixture(b, o)
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
