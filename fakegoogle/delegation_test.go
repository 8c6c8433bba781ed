package fakegoogle

import (
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDelegation(t *testing.T) {
	const a, b = "a@demo-project.iam.gserviceaccount.com", "b@demo-project.iam.gserviceaccount.com"
	type bound struct{ resource, role, member string }
	right := []bound{
		{a, tokenCreator, testCaller},
		{b, tokenCreator, "serviceAccount:" + a},
		{testGSA, tokenCreator, "serviceAccount:" + b},
	}
	without := func(i int) []bound { return slices.Delete(slices.Clone(right), i, i+1) }
	instead := func(i int, with bound) []bound {
		chain := slices.Clone(right)
		chain[i] = with
		return chain
	}
	delegates := func(emails ...string) []string {
		for i := range emails {
			emails[i] = "projects/-/serviceAccounts/" + emails[i]
		}
		return emails
	}
	for name, test := range map[string]struct {
		bound     []bound
		delegates []string
		want      string // permission that is missing; none means 200
	}{
		"right":                              {right, delegates(a, b), ""},
		"caller may not use the first":       {without(0), delegates(a, b), permImplicitDelegation},
		"first may not use the second":       {without(1), delegates(a, b), permImplicitDelegation},
		"second may not use the target":      {without(2), delegates(a, b), permGetAccessToken},
		"wrong order":                        {right, delegates(b, a), permImplicitDelegation},
		"a hop left out":                     {right, delegates(a), permGetAccessToken},
		"no delegates":                       {right, nil, permGetAccessToken},
		"caller is workloadIdentityUser":     {instead(0, bound{a, wiUser, testCaller}), delegates(a, b), permImplicitDelegation},
		"caller reaches all but in no chain": {instead(1, bound{b, tokenCreator, testCaller}), delegates(a, b), permImplicitDelegation},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGoogle(t, Options{})
			for _, email := range []string{a, b, testGSA} {
				g.AddServiceAccount(email)
			}
			for _, b := range test.bound {
				g.Bind(b.resource, b.role, b.member)
			}
			got := g.call(g.federate(nil), testGSA, "generateAccessToken", object{"scope": cloudPlatform, "delegates": test.delegates})
			if test.want != "" {
				checkAPIError(t, got, 403, "PERMISSION_DENIED", "'"+test.want+"'")
				return
			}
			granted, _ := g.Inspect(got.str(t, "accessToken"))
			want := []string{testCaller, "serviceAccount:" + a, "serviceAccount:" + b}
			if diff := cmp.Diff(want, granted.Through); diff != "" || granted.Principal != "serviceAccount:"+testGSA {
				t.Error(granted.Principal, diff)
			}
		})
	}
	t.Run("delegate does not exist", func(t *testing.T) {
		g := newGoogle(t, Options{})
		g.Bind(testGSA, tokenCreator, testCaller)
		got := g.call(g.federate(nil), testGSA, "generateAccessToken", object{"scope": cloudPlatform, "delegates": delegates(a)})
		checkAPIError(t, got, 404, "NOT_FOUND", a)
	})
}

func TestServiceAccountActsForItselfOnlyIfBoundToItself(t *testing.T) {
	g := newGoogle(t, Options{})
	own := g.accessToken(testGSA, scopeCloudPlatform)
	for verb, body := range verbs() {
		checkAPIError(t, g.call(own, testGSA, verb, body), 403, "PERMISSION_DENIED", "denied on resource")
	}
	g.Bind(testGSA, tokenCreator, "serviceAccount:"+testGSA)
	for verb, body := range verbs() {
		if got := g.call(own, testGSA, verb, body); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", verb, got.status, got.body)
		}
	}
}
