package identity

import (
	"strings"
	"testing"
)

// at returns the workload of a caller from an address.
func at(t *testing.T, s *Static, ip string) (Workload, error) {
	t.Helper()
	pod, err := s.Pod(t.Context(), from(ip))
	if err != nil {
		return Workload{}, err
	}
	return s.Workload(t.Context(), pod)
}

func TestStatic_MostSpecificRowApplies(t *testing.T) {
	s := must(ParseStatic([]byte(`
identities:
- {address: 10.0.0.0/8, serviceAccount: eight}
- {address: 10.1.0.0/16, serviceAccount: sixteen}
- {serviceAccount: everybody}
- {address: 10.1.2.3, serviceAccount: one}
- {address: "2001:db8::/32", serviceAccount: six}
- {address: "2001:db8::1", serviceAccount: six-one}
- {address: "::ffff:192.0.2.0/120", serviceAccount: mapped-range}
- {address: "::ffff:192.0.2.7", serviceAccount: mapped}
`)))
	for ip, want := range map[string]string{
		"10.1.2.3":         "one",
		"::ffff:10.1.2.3":  "one",
		"10.1.2.4":         "sixteen",
		"10.2.0.1":         "eight",
		"172.16.0.1":       "everybody",
		"2001:db8::1":      "six-one",
		"2001:db8::2":      "six",
		"2001:db9::1":      "everybody",
		"192.0.2.7":        "mapped",
		"::ffff:192.0.2.7": "mapped",
		"192.0.2.8":        "mapped-range",
		"192.0.3.1":        "everybody",
	} {
		w, err := at(t, s, ip)
		if err != nil || w.KSA.Name != want || w.KSA.Namespace != "default" {
			t.Errorf("%s is %s/%s, %v, want %s", ip, w.KSA.Namespace, w.KSA.Name, err, want)
		}
	}
	if got := len(s.Workloads()); got != 8 {
		t.Errorf("%d workloads, want 8: everybody has two ranges", got)
	}
}

// The names of KSAs may be left out: nobody gets another row's account for that.
func TestStatic_RowsOfOneAccountKeepTheirProperties(t *testing.T) {
	s := must(ParseStatic([]byte(`
identities:
- {address: 10.0.0.1, gsa: one@p.iam.gserviceaccount.com}
- {address: 10.0.0.2, gsa: two@p.iam.gserviceaccount.com}
- {address: 10.0.0.3}
- {address: 10.0.0.4, quotaProject: quota}
- {address: 10.0.0.5, principalAsEmail: true}
`)))
	for ip, want := range map[string]Workload{
		"10.0.0.1": {GSA: "one@p.iam.gserviceaccount.com"},
		"10.0.0.2": {GSA: "two@p.iam.gserviceaccount.com"},
		"10.0.0.3": {},
		"10.0.0.4": {QuotaProject: "quota"},
		"10.0.0.5": {PrincipalEmail: true},
	} {
		w, err := at(t, s, ip)
		if err != nil || w.GSA != want.GSA || w.QuotaProject != want.QuotaProject || w.PrincipalEmail != want.PrincipalEmail {
			t.Errorf("%s is %+v, %v, want %+v", ip, w, err, want)
		}
		if w.KSA.Name != "default" {
			t.Errorf("%s runs as %s", ip, w.KSA.Name)
		}
	}
}

func TestStatic_CallerWithoutRowIsNotListed(t *testing.T) {
	s := must(ParseStatic([]byte("identities: [{address: 10.0.0.0/24}]")))
	_, err := at(t, s, "10.0.1.0")
	wantError(t, err, NotListed, "10.0.1.0", "identities file")
	_, err = s.Workload(t.Context(), Pod{Namespace: "default", Name: "default", UID: "of another list"})
	wantError(t, err, Gone)
}

func TestStatic_ErrorsNameField(t *testing.T) {
	for _, test := range []struct{ document, want string }{
		{"", "the list is empty"},
		{"identities: []", "the list is empty"},
		{"identities: [{adress: 10.0.0.1}]", `unknown field "adress"`},
		{"identity: []", `unknown field "identity"`},
		{"identities: [{}, {address: 10.0.0.300}]", `identities[1].address: "10.0.0.300" is neither an IP address nor a CIDR range`},
		{"identities: [{address: host.example.com}]", `"host.example.com" is neither`},
		{"identities: [{address: 10.0.0.0/33}]", `"10.0.0.0/33" is neither`},
		{"identities: [{address: 10.0.0.1}, {address: 10.0.0.1}]", "identities[1].address: 10.0.0.1/32 is listed twice"},
		{"identities: [{address: 10.0.0.1}, {address: 10.0.0.1/32}]", "10.0.0.1/32 is listed twice"},
		{"identities: [{address: 10.0.0.0/24}, {address: 10.0.0.9/24}]", "10.0.0.0/24 is listed twice"},
		{"identities: [{address: 10.0.0.1}, {address: '::ffff:10.0.0.1'}]", "10.0.0.1/32 is listed twice"},
		{"identities: [{address: '2001:db8::1'}, {address: '2001:DB8:0::1'}]", "2001:db8::1/128 is listed twice"},
		{"identities: [{}, {}]", "0.0.0.0/0 is listed twice"},
		{"identities: [{}, {address: 0.0.0.0/0}]", "0.0.0.0/0 is listed twice"},
		{"identities: [{quotaProject: a b}]", `identities[0].quotaProject: "a b" is not the ID of a Google project`},
		{"identities: [{gsa: me}]", `identities[0].gsa: "me" is not the e-mail address of a Google service account`},
		{"identities: {", "identities: line 1: "},
		{"shop/cart", "identities: found text instead of a mapping"},
		{"identities: [cart]", "identities: found text instead of a mapping in the field identities"},
	} {
		if _, err := ParseStatic([]byte(test.document)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %s", test.document, err, test.want)
		}
	}
}

// A token is bound to UIDs, so they must survive a restart.
func TestStatic_UIDsAreStable(t *testing.T) {
	list := []byte("identities: [{namespace: shop, serviceAccount: cart, gsa: cart@p.iam.gserviceaccount.com}, {address: 10.0.0.1, namespace: shop, serviceAccount: other}]")
	one, two := must(ParseStatic(list)), must(ParseStatic(list))
	first, second := must(at(t, one, "10.0.0.9")), must(at(t, two, "10.0.0.9"))
	if first != second {
		t.Errorf("%+v, then %+v", first, second)
	}
	other := must(at(t, one, "10.0.0.1"))
	uids := map[string]bool{first.KSA.UID: true, first.Pod.UID: true, other.KSA.UID: true, other.Pod.UID: true}
	for uid := range uids {
		if len(uid) != 36 || strings.Count(uid, "-") != 4 {
			t.Errorf("%q is no UID", uid)
		}
	}
	if len(uids) != 4 {
		t.Errorf("two KSAs and two pods have %d UIDs", len(uids))
	}
	if want := derivedUID("serviceaccount", "shop", "cart"); first.KSA.UID != want {
		t.Errorf("UID of the KSA %s, want %s", first.KSA.UID, want)
	}
}

func TestStatic_SingleIdentityIsForAllCallers(t *testing.T) {
	s := must(SingleIdentity("shop", "cart", gsa))
	for _, ip := range []string{"10.0.0.1", "2001:db8::1", "127.0.0.1"} {
		w, err := at(t, s, ip)
		if err != nil || w.KSA.Namespace != "shop" || w.KSA.Name != "cart" || w.GSA != gsa {
			t.Errorf("%s is %+v, %v", ip, w, err)
		}
	}
	if got := len(s.Workloads()); got != 1 {
		t.Errorf("%d workloads", got)
	}
	if _, err := SingleIdentity("shop", "cart", "nobody"); err == nil {
		t.Error("an invalid GSA is accepted")
	}
}
