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

// The spoofer has added the victim's address to its own interface. The kernel still
// attests the spoofer's own pod.
func TestSpoofer_WithVictimsAddressIsAttestedAsItself(t *testing.T) {
	for _, policy := range []Policy{Require, Prefer} {
		f := newFixture(t, fixtureOptions{policy: policy})
		f.node.NewPod(t, "spoofer0", "10.244.0.1", "10.244.0.66", "10.244.0.7").Enter(t)
		if _, err := f.bill.Start(t).Connect("4", "10.244.0.7:0", metadata); err != nil {
			t.Fatal(err)
		}
		c := f.accept()
		if got := connection(c).Remote.Addr().String(); got != "10.244.0.7" {
			t.Errorf("the spoofer's connection comes from %s, want the victim's address", got)
		}
		f.wantPod(c, bill) // package identity detects that the address is another pod's
	}
}

// The recorder does not see this process, which has a pod's address. Pods in virtual
// machines always look like this.
func TestSourceIP_IsTrustedOnlyIfPolicyAllows(t *testing.T) {
	for _, policy := range []Policy{Require, Prefer, IP} {
		f := newFixture(t, fixtureOptions{policy: policy})
		f.node.NewPod(t, "spoofer0", "10.244.0.1", "10.244.0.7").Enter(t)
		f.root.NewChild(t, "system.slice/vm").Start(t).MustConnect(metadata)
		c := f.accept()
		if policy == Require {
			f.wantRefused(c, identity.Unattested, "no proof of which pod calls from 10.244.0.7, and --attestation=require")
			continue
		}
		f.wantPod(c, "")
	}
}

// SOCK_DIAG answers with a listener if no connection has the addresses.
func TestSockets_IgnoreListenerAtClientPort(t *testing.T) {
	f := newFixture(t, fixtureOptions{policy: Require, noRecorder: true})
	f.node.NewPod(t, "pod0", "10.244.0.1", "10.244.0.7").Enter(t)
	p := f.root.NewChild(t, "system.slice/vm").Start(t)
	f.node.Enter(t)
	listen(t, "0.0.0.0:40123")
	if _, err := p.Connect("4", "10.244.0.7:40123", metadata); err != nil {
		t.Fatal(err)
	}
	f.wantRefused(f.accept(), identity.Unattested, "no proof")
}

// The spoofer forges packets of the victim, whose address leads to the spoofer as after
// a forged ARP reply. The kernel's TCP has opened no connection, so there is no proof.
func TestSpoofer_ForgedPacketsProveNothing(t *testing.T) {
	for _, policy := range []Policy{Require, Prefer} {
		f := newFixture(t, fixtureOptions{policy: policy})
		spoofer := f.node.NewPod(t, "spoofer0", "10.244.0.1", "10.244.0.66")
		f.node.Divert(t, "10.244.0.7", "spoofer0")
		spoofer.Enter(t)
		if err := f.bill.Start(t).Forge("10.244.0.7:40007", metadata); err != nil {
			t.Fatal(err)
		}
		c := f.accept()
		if got := connection(c).Remote.String(); got != "10.244.0.7:40007" {
			t.Errorf("the spoofer's connection comes from %s, want the victim's address", got)
		}
		if policy == Require {
			f.wantRefused(c, identity.Unattested, "no proof of which pod calls from 10.244.0.7")
		} else {
			f.wantPod(c, "") // the policy prefer accepts the address alone
		}
		f.wantProofs(map[string]int{"none": 1})
	}
}
