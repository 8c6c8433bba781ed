package attest

import (
	"net"
	"os"
	"testing"

	"gke-metadata-emulator/identity"
)

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// The spoofer has added the victim's address to its own interface: the kernel says
// who it is all the same.
func TestPodWithAnothersAddressIsItself(t *testing.T) {
	for _, policy := range []Policy{Require, Prefer} {
		b := newBench(t, benchOptions{policy: policy})
		b.node.NewPod(t, "spoofer0", "10.244.0.1", "10.244.0.66", "10.244.0.7").Enter(t)
		if _, err := b.bill.Start(t).Connect("4", "10.244.0.7:0", metadata); err != nil {
			t.Fatal(err)
		}
		c := b.accept()
		if got := connection(c).Remote.Addr().String(); got != "10.244.0.7" {
			t.Errorf("it comes from %s", got)
		}
		b.wantPod(c, bill) // with the victim's address, which identity finds to contradict
	}
}

// A process that no program in the kernel sees, with a pod's address: for a pod of
// a virtual machine this is how it always is.
func TestAddressAloneIsBelievedOnlyWherePreferred(t *testing.T) {
	for _, policy := range []Policy{Require, Prefer, IP} {
		b := newBench(t, benchOptions{policy: policy})
		b.node.NewPod(t, "spoofer0", "10.244.0.1", "10.244.0.7").Enter(t)
		b.root.NewChild(t, "system.slice/vm").Start(t).MustConnect(metadata)
		c := b.accept()
		if policy == Require {
			b.wantRefused(c, identity.Unattested, "no proof of which pod calls from 10.244.0.7, and --attestation=require")
			continue
		}
		b.wantPod(c, "")
	}
}

// SOCK_DIAG answers with a listener where no connection has the addresses.
func TestListenerAtTheClientsPortIsNotTheClient(t *testing.T) {
	b := newBench(t, benchOptions{policy: Require, noRecorder: true})
	b.node.NewPod(t, "pod0", "10.244.0.1", "10.244.0.7").Enter(t)
	p := b.root.NewChild(t, "system.slice/vm").Start(t)
	b.node.Enter(t)
	listen(t, "0.0.0.0:40123")
	if _, err := p.Connect("4", "10.244.0.7:40123", metadata); err != nil {
		t.Fatal(err)
	}
	b.wantRefused(b.accept(), identity.Unattested, "no proof")
}

// The spoofer makes up the packets of the victim, whose address leads to the spoofer,
// as after a forged answer of ARP. The kernel's TCP has opened no connection, so it
// has proved none.
func TestForgedPacketsProveNothing(t *testing.T) {
	for _, policy := range []Policy{Require, Prefer} {
		b := newBench(t, benchOptions{policy: policy})
		spoofer := b.node.NewPod(t, "spoofer0", "10.244.0.1", "10.244.0.66")
		b.node.Divert(t, "10.244.0.7", "spoofer0")
		spoofer.Enter(t)
		if err := b.bill.Start(t).Forge("10.244.0.7:40007", metadata); err != nil {
			t.Fatal(err)
		}
		c := b.accept()
		if got := connection(c).Remote.String(); got != "10.244.0.7:40007" {
			t.Errorf("it comes from %s", got)
		}
		if policy == Require {
			b.wantRefused(c, identity.Unattested, "no proof of which pod calls from 10.244.0.7")
		} else {
			b.wantPod(c, "") // the address is all there is: the price of this policy
		}
		b.wantProofs(map[string]int{"none": 1})
	}
}
