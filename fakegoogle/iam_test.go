package fakegoogle

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGetIAMPolicy_RequiresPermission(t *testing.T) {
	for role, want := range map[string]bool{
		"roles/iam.serviceAccountAdmin":        true,
		"roles/iam.serviceAccountViewer":       true,
		"roles/iam.securityReviewer":           true,
		"roles/iam.securityAdmin":              true,
		"roles/viewer":                         true,
		"roles/editor":                         true,
		"roles/owner":                          true,
		"roles/iam.workloadIdentityUser":       false,
		"roles/iam.serviceAccountTokenCreator": false,
		"roles/iam.serviceAccountUser":         false,
	} {
		for _, resource := range []string{testGSA, "projects/demo-project"} {
			g := newFixture(t, Options{})
			g.AddServiceAccount(testGSA)
			g.Bind(resource, role, testCaller)
			got := g.call(g.federate(nil), testGSA, "getIamPolicy", nil)
			if want && got.status != http.StatusOK {
				t.Errorf("%s on %s: %d %s", role, resource, got.status, got.body)
			}
			if !want {
				checkAPIError(t, got, 403, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.getIamPolicy' denied on resource (or it may not exist).")
			}
		}
	}
	g := newFixture(t, Options{})
	g.AddServiceAccount(testGSA)
	g.Bind("projects/other", "roles/viewer", testCaller)
	checkAPIError(t, g.call(g.federate(nil), testGSA, "getIamPolicy", nil), 403, "PERMISSION_DENIED", "")
	checkAPIError(t, g.call("", testGSA, "getIamPolicy", nil), 401, "UNAUTHENTICATED", "")
	checkAPIError(t, g.call(g.accessToken(testGSA, "openid"), testGSA, "getIamPolicy", nil), 403, "PERMISSION_DENIED", "scopes")
}

func TestGetIAMPolicy_ReturnsBindingsAndETag(t *testing.T) {
	g := newFixture(t, Options{})
	g.Bind("projects/demo-project", "roles/viewer", testCaller)
	g.AddServiceAccount(testGSA)
	policy := func() object { return g.call(g.federate(nil), testGSA, "getIamPolicy", nil).decode(t) }
	if diff := cmp.Diff(object{"etag": "ACAB"}, policy()); diff != "" {
		t.Error("a policy without bindings:", diff)
	}
	must(0, g.AddGKEPool("demo-project", "123456"))
	g.Bind(testGSA, wiUser, "serviceAccount:demo-project.svc.id.goog[shop/cart]")
	g.Bind(testGSA, wiUser, testCaller)
	g.Bind(testGSA, wiUser, testCaller) // no second member
	g.Bind(testGSA, tokenCreator, "user:Dev@Example.com")
	want := object{"version": 1.0, "bindings": []any{
		object{"role": wiUser, "members": []any{"serviceAccount:demo-project.svc.id.goog[shop/cart]", testCaller}},
		object{"role": tokenCreator, "members": []any{"user:dev@example.com"}},
	}}
	got := policy()
	etag := got["etag"]
	delete(got, "etag")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if etag != policy()["etag"] {
		t.Error("the etag of an unchanged policy changed")
	}
	g.Unbind(testGSA, tokenCreator, "user:dev@example.com")
	if etag == policy()["etag"] {
		t.Error("the etag of a changed policy is the same")
	}
}

func TestRemoveServiceAccount_MarksMemberDeleted(t *testing.T) {
	const old = "old@demo-project.iam.gserviceaccount.com"
	g := newFixture(t, Options{})
	g.AddServiceAccount(old)
	g.Bind(testGSA, tokenCreator, "serviceAccount:"+old)
	token := g.accessToken(old, scopeCloudPlatform)
	body := object{"scope": cloudPlatform}
	if got := g.call(token, testGSA, "generateAccessToken", body); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	g.RemoveServiceAccount(old)
	checkAPIError(t, g.call(token, testGSA, "generateAccessToken", body), 401, "UNAUTHENTICATED", "")
	g.AddServiceAccount(old)
	checkAPIError(t, g.call(g.accessToken(old, scopeCloudPlatform), testGSA, "generateAccessToken", body), 403, "PERMISSION_DENIED", "")
}

func TestGetIAMPolicy_ChecksProjectAndOptions(t *testing.T) {
	g := newFixture(t, Options{})
	g.AddServiceAccount(testGSA)
	g.Bind("projects/demo-project", "roles/viewer", testCaller)
	token := g.federate(nil)
	getPolicy := func(target, body string) response {
		return g.do("POST", "/v1/projects/"+target, map[string]string{"Authorization": "Bearer " + token}, body)
	}
	const missing = "missing@demo-project.iam.gserviceaccount.com"
	for name, test := range map[string]struct {
		target, body string
		code         int
		status       string
	}{
		"wildcard project":          {"-/serviceAccounts/" + testGSA + ":getIamPolicy", "", 200, ""},
		"its project":               {"demo-project/serviceAccounts/" + testGSA + ":getIamPolicy", "{}", 200, ""},
		"a version":                 {"-/serviceAccounts/" + testGSA + ":getIamPolicy?options.requestedPolicyVersion=3", "", 200, ""},
		"another project":           {"other/serviceAccounts/" + testGSA + ":getIamPolicy", "", 403, "PERMISSION_DENIED"},
		"missing, wildcard project": {"-/serviceAccounts/" + missing + ":getIamPolicy", "", 403, "PERMISSION_DENIED"},
		"missing, in its project":   {"demo-project/serviceAccounts/" + missing + ":getIamPolicy", "", 404, "NOT_FOUND"},
		"missing, in another project": {"other/serviceAccounts/missing@other.iam.gserviceaccount.com:getIamPolicy", "", 403,
			"PERMISSION_DENIED"},
		"options in the body": {"-/serviceAccounts/" + testGSA + ":getIamPolicy", `{"options":{}}`, 400, "INVALID_ARGUMENT"},
		"no such version":     {"-/serviceAccounts/" + testGSA + ":getIamPolicy?options.requestedPolicyVersion=x", "", 400, "INVALID_ARGUMENT"},
	} {
		t.Run(name, func(t *testing.T) {
			got := getPolicy(test.target, test.body)
			if test.code == 200 {
				if got.status != 200 {
					t.Errorf("%d %s", got.status, got.body)
				}
				return
			}
			checkAPIError(t, got, test.code, test.status, "")
		})
	}
}

func TestAccountProject(t *testing.T) {
	for email, want := range map[string]string{
		"sa@demo-project.iam.gserviceaccount.com":             "demo-project",
		"sa@demo-project.example.com.iam.gserviceaccount.com": "example.com:demo-project",
		"123456-compute@developer.gserviceaccount.com":        "123456",
		"demo-project@appspot.gserviceaccount.com":            "demo-project",
	} {
		if got := accountProject(email); got != want {
			t.Errorf("accountProject(%q) = %q, want %q", email, got, want)
		}
	}
}

func TestRemoveServiceAccount_DeletesPolicy(t *testing.T) {
	g := newFixture(t, Options{})
	g.Bind(testGSA, wiUser, testCaller)
	g.RemoveServiceAccount(testGSA)
	g.AddServiceAccount(testGSA)
	checkAPIError(t, g.call(g.federate(nil), testGSA, "generateAccessToken", object{"scope": cloudPlatform}), 403, "PERMISSION_DENIED", "")
}

func TestServiceAccount_AddressIgnoresCase(t *testing.T) {
	g := newFixture(t, Options{})
	g.AddServiceAccount(strings.ToUpper(testGSA))
	g.Bind(strings.ToUpper(testGSA), wiUser, testCaller)
	if got := g.call(g.federate(nil), testGSA, "generateAccessToken", object{"scope": cloudPlatform}); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	if len(g.accounts) != 1 {
		t.Errorf("%d accounts", len(g.accounts))
	}
	g.RemoveServiceAccount(strings.ToUpper(testGSA))
	checkAPIError(t, g.call(g.federate(nil), testGSA, "generateAccessToken", object{"scope": cloudPlatform}), 404, "NOT_FOUND", "")
}
