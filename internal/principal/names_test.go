package principal

import (
	"slices"
	"strings"
	"testing"

	"gke-metadata-emulator/identity"
)

const (
	pools    = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/"
	ofGKE    = "serviceAccount:shop-project.svc.id.goog[shop/cart]"
	inGKE    = "principal:" + pools + "shop-project.svc.id.goog/subject/ns/shop/sa/cart"
	inOwn    = "principal:" + pools + "clusters/subject/system:serviceaccount:shop:cart"
	inOwnGKE = "principal:" + pools + "clusters/subject/ns/shop/sa/cart"
)

func TestNames_FollowFromPool(t *testing.T) {
	ksa := identity.ServiceAccount{Namespace: "shop", Name: "cart", UID: "ksa-uid"}
	gke := Names{GKEPool: "shop-project.svc.id.goog", ProjectNumber: "123456"}
	own := gke
	own.Pool = pools + "clusters"
	for name, test := range map[string]struct {
		names             Names
		member, principal string
		members           []string
	}{
		"GKE's pool":         {gke, ofGKE, inGKE, []string{ofGKE, inGKE}},
		"the operator's own": {own, inOwn, inOwn, []string{ofGKE, inGKE, inOwn, inOwnGKE}},
	} {
		if got := test.names.Member(ksa); got != test.member {
			t.Errorf("%s: member %s, want %s", name, got, test.member)
		}
		if got := test.names.Principal(ksa); got != test.principal {
			t.Errorf("%s: principal %s, want %s", name, got, test.principal)
		}
		members := test.names.Members(ksa)
		if !slices.Equal(members, test.members) {
			t.Errorf("%s: members\n%s\nwant\n%s", name, strings.Join(members, "\n"), strings.Join(test.members, "\n"))
		}
		if !slices.Contains(members, test.member) || !slices.Contains(members, test.principal) {
			t.Errorf("%s: a name that is shown is not honoured", name)
		}
	}
}
