package daemon

import (
	"net/netip"
	"testing"
)

func TestStandaloneAnswersThisMachineAndPrivateNetworksOnly(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1": true, "::1": true, "10.1.2.3": true, "172.17.0.2": true, "192.168.1.7": true, "169.254.1.1": true, "fd00::1": true, "fe80::1": true,
		"8.8.8.8": false, "172.32.0.1": false, "100.64.0.1": false, "2001:db8::1": false, "0.0.0.0": false,
	} {
		if got := nearby(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is answered: %t, want %t", address, got, want)
		}
	}
}

func TestStandaloneIsOneIdentityWhereNoneIsListed(t *testing.T) {
	for project, gsa := range map[string]string{
		"":                         "demo@demo-project.iam.gserviceaccount.com",
		"prod-project":             "demo@prod-project.iam.gserviceaccount.com",
		"example.com:prod-project": "demo@prod-project.example.com.iam.gserviceaccount.com",
	} {
		s := standalone()
		s.ID, s.Namespace, s.KSA = project, "shop", "cart"
		if err := s.Complete(); err != nil {
			t.Fatal(err)
		}
		all := s.list.Workloads()
		if len(all) != 1 || all[0].GSA != gsa || all[0].KSA.Namespace != "shop" || all[0].KSA.Name != "cart" {
			t.Errorf("project %q: identities %+v, want one of shop/cart with %s", project, all, gsa)
		}
	}
}

func TestStandaloneReadsTheListOfIdentities(t *testing.T) {
	s := standalone()
	s.Identities = file(t, "identities:\n- {address: 172.17.0.2, serviceAccount: cart}\n- {address: 172.17.0.0/16, serviceAccount: till}\n")
	if err := s.Complete(); err != nil {
		t.Fatal(err)
	}
	if all := s.list.Workloads(); len(all) != 2 || all[0].KSA.Name != "cart" || all[1].KSA.Name != "till" {
		t.Errorf("identities %+v", all)
	}
}

func TestStandaloneAnswersToNamesThatNoWebPageCanHave(t *testing.T) {
	for host, want := range map[string]bool{
		"": true, "127.0.0.1": true, "::1": true, "169.254.169.254": true, "8.8.8.8": true, "localhost": true, "LOCALHOST.": true,
		"metadata": true, "metadata.google.internal": true, "metadata.google.internal.": true, "emulator": true, "host.docker.internal": true, "a.localhost": true,
		"evil.example": false, "evil.example.": false, "127.0.0.1.evil.example": false, "metadata.google.internal.evil.example": false, "internal.evil": false, "printer.local": false,
	} {
		if got := unroutable(host); got != want {
			t.Errorf("%q is answered: %t, want %t", host, got, want)
		}
	}
}
