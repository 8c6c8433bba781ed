package fakegoogle

import (
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDelegation_RequiresEachHop(t *testing.T) {
	const a, b = "a@demo-project.iam.gserviceaccount.com", "b@demo-project.iam.gserviceaccount.com"
	type binding struct{ resource, role, member string }
	complete := []binding{
		{a, tokenCreator, testCaller},
		{b, tokenCreator, "serviceAccount:" + a},
		{testGSA, tokenCreator, "serviceAccount:" + b},
	}
	without := func(i int) []binding { return slices.Delete(slices.Clone(complete), i, i+1) }
	replace := func(i int, b binding) []binding {
		bindings := slices.Clone(complete)
		bindings[i] = b
		return bindings
	}
	delegates := func(emails ...string) []string {
		for i := range emails {
			emails[i] = "projects/-/serviceAccounts/" + emails[i]
		}
		return emails
	}
	for name, test := range map[string]struct {
		bindings  []binding
		delegates []string
		want      string // the missing permission; empty means 200
	}{
		"complete":                         {complete, delegates(a, b), ""},
		"caller has no role on the first":  {without(0), delegates(a, b), permImplicitDelegation},
		"first has no role on the second":  {without(1), delegates(a, b), permImplicitDelegation},
		"second has no role on the target": {without(2), delegates(a, b), permGetAccessToken},
		"wrong order":                      {complete, delegates(b, a), permImplicitDelegation},
		"a hop left out":                   {complete, delegates(a), permGetAccessToken},
		"no delegates":                     {complete, nil, permGetAccessToken},
		"caller is workloadIdentityUser":   {replace(0, binding{a, wiUser, testCaller}), delegates(a, b), permImplicitDelegation},
		"caller has roles but no chain":    {replace(1, binding{b, tokenCreator, testCaller}), delegates(a, b), permImplicitDelegation},
	} {
		t.Run(name, func(t *testing.T) {
			g := newFixture(t, Options{})
			for _, email := range []string{a, b, testGSA} {
				g.AddServiceAccount(email)
			}
			for _, b := range test.bindings {
				g.Bind(b.resource, b.role, b.member)
			}
			got := g.call(g.federate(nil), testGSA, "generateAccessToken", object{"scope": cloudPlatform, "delegates": test.delegates})
			if test.want != "" {
				checkAPIError(t, got, 403, "PERMISSION_DENIED", "'"+test.want+"'")
				return
			}
			granted, _ := g.Inspect(got.field(t, "accessToken"))
			want := []string{testCaller, "serviceAccount:" + a, "serviceAccount:" + b}
			if diff := cmp.Diff(want, granted.DelegationChain); diff != "" || granted.Principal != "serviceAccount:"+testGSA {
				t.Error(granted.Principal, diff)
			}
		})
	}
	t.Run("delegate does not exist", func(t *testing.T) {
		g := newFixture(t, Options{})
		g.Bind(testGSA, tokenCreator, testCaller)
		got := g.call(g.federate(nil), testGSA, "generateAccessToken", object{"scope": cloudPlatform, "delegates": delegates(a)})
		checkAPIError(t, got, 404, "NOT_FOUND", a)
	})
}

func TestServiceAccount_ImpersonatesItselfOnlyIfBound(t *testing.T) {
	g := newFixture(t, Options{})
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
