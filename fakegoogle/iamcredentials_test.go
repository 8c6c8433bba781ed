package fakegoogle

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type object = map[string]any

var cloudPlatform = []string{scopeCloudPlatform}

// verbs are the methods of the IAM Service Account Credentials API, each with a valid
// body.
func verbs() map[string]object {
	return map[string]object{
		"generateAccessToken": {"scope": cloudPlatform},
		"generateIdToken":     {"audience": "https://shop.example"},
		"signBlob":            {"payload": base64.StdEncoding.EncodeToString([]byte("blob"))},
		"signJwt":             {"payload": `{"iss":"me"}`},
	}
}

func TestGenerateAccessToken_ReturnsToken(t *testing.T) {
	g := newFixture(t, Options{})
	g.Bind(testGSA, wiUser, testCaller)
	g.Bind("projects/billing", "roles/serviceusage.serviceUsageConsumer", testCaller)
	got := g.callBilled(g.federate(nil), "billing", testGSA, "generateAccessToken",
		object{"scope": []string{scopeCloudPlatform, "openid"}, "lifetime": "600s"})
	if got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	token := got.field(t, "accessToken")
	if !strings.HasPrefix(token, "ya29.fake-") {
		t.Errorf("accessToken begins %.10q", token)
	}
	if expire := got.field(t, "expireTime"); expire != "2026-01-02T03:14:05Z" {
		t.Errorf("expireTime %q", expire)
	}
	granted, _ := g.Inspect(token)
	if diff := cmp.Diff(Grant{
		Principal:       "serviceAccount:" + testGSA,
		DelegationChain: []string{testCaller},
		KSA:             "shop/cart",
		Pod:             "shop/cart-7d4",
		PodUID:          "5b2d",
		Scopes:          []string{scopeCloudPlatform, "openid"},
		Expiry:          startTime.Add(10 * time.Minute),
		QuotaProject:    "billing",
	}, granted); diff != "" {
		t.Error(diff)
	}
}

func TestQuotaProject_RequiresPermission(t *testing.T) {
	g := newFixture(t, Options{})
	g.Bind(testGSA, wiUser, testCaller)
	mint := func(verb string, body object) response {
		return g.callBilled(g.federate(nil), "billing", testGSA, verb, body)
	}
	for verb, body := range map[string]object{"generateAccessToken": {"scope": []string{"openid"}}, "generateIdToken": {"audience": "a"}} {
		for role, want := range map[string]int{"roles/viewer": 403, "roles/serviceusage.serviceUsageConsumer": 200, "roles/editor": 200} {
			g.Bind("projects/other", role, testCaller)
			g.Bind("projects/billing", role, testCaller)
			got := mint(verb, body)
			if got.status != want || want == 403 && (!strings.Contains(string(got.body), "USER_PROJECT_DENIED") || !strings.Contains(string(got.body), "to use project billing.")) {
				t.Errorf("%s with %s: %d %s", verb, role, got.status, got.body)
			}
			g.Unbind("projects/billing", role, testCaller)
		}
		if got := mint(verb, body); got.status != 403 {
			t.Errorf("%s without a role: %d", verb, got.status)
		}
	}
}

func TestIAMCredentials_RequirePermissionOfVerb(t *testing.T) {
	allowed := map[string][]string{
		"roles/iam.workloadIdentityUser":             {"generateAccessToken", "generateIdToken"},
		"roles/iam.serviceAccountTokenCreator":       {"generateAccessToken", "generateIdToken", "signBlob", "signJwt"},
		"roles/iam.serviceAccountOpenIdTokenCreator": {"generateIdToken"},
		"roles/iam.serviceAccountUser":               nil,
		"roles/iam.serviceAccountAdmin":              nil,
		"roles/owner":                                nil,
		"roles/editor":                               nil,
		"":                                           nil, // no binding
	}
	permission := map[string]string{
		"generateAccessToken": "iam.serviceAccounts.getAccessToken",
		"generateIdToken":     "iam.serviceAccounts.getOpenIdToken",
		"signBlob":            "iam.serviceAccounts.signBlob",
		"signJwt":             "iam.serviceAccounts.signJwt",
	}
	for role, verbsOfRole := range allowed {
		for verb, body := range verbs() {
			for _, resource := range []string{testGSA, "projects/demo-project"} {
				t.Run(role+" "+verb+" on "+resource, func(t *testing.T) {
					g := newFixture(t, Options{})
					g.AddServiceAccount(testGSA)
					if role != "" {
						g.Bind(resource, role, testCaller)
					}
					got := g.call(g.federate(nil), testGSA, verb, body)
					if slices.Contains(verbsOfRole, verb) {
						if got.status != http.StatusOK {
							t.Errorf("%d %s", got.status, got.body)
						}
						return
					}
					want := object{"error": object{
						"code":    403.0,
						"message": "Permission '" + permission[verb] + "' denied on resource (or it may not exist).",
						"status":  "PERMISSION_DENIED",
						"details": []any{object{
							"@type":    "type.googleapis.com/google.rpc.ErrorInfo",
							"reason":   "IAM_PERMISSION_DENIED",
							"domain":   "iam.googleapis.com",
							"metadata": object{"permission": permission[verb]},
						}},
					}}
					if diff := cmp.Diff(want, got.decode(t)); diff != "" || got.status != http.StatusForbidden {
						t.Error(got.status, diff)
					}
				})
			}
		}
	}
}

func TestBinding_MatchesMemberForms(t *testing.T) {
	others := strings.Replace(testPool, "clusters", "others", 1)
	for name, test := range map[string]struct {
		member string
		want   bool
	}{
		"the subject":       {testCaller, true},
		"another subject":   {testCaller + "x", false},
		"another pool":      {strings.Replace(testCaller, "clusters", "others", 1), false},
		"the pool":          {"principalSet:" + testPool + "/*", true},
		"another set":       {"principalSet:" + testPool + "/attribute.x/y", false},
		"GKE's old form":    {"serviceAccount:demo-project.svc.id.goog[shop/cart]", false},
		"GKE's new form":    {"principal:" + testPool + "/subject/ns/shop/sa/cart", false},
		"GKE's namespace":   {"principalSet:" + testPool + "/namespace/shop", false},
		"a service account": {"serviceAccount:" + testGSA, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newFixture(t, Options{})
			must(0, g.AddPool(others))
			must(0, g.AddGKEPool("demo-project", "123456"))
			g.Bind(testGSA, wiUser, test.member)
			got := g.call(g.federate(nil), testGSA, "generateAccessToken", object{"scope": cloudPlatform})
			if (got.status == http.StatusOK) != test.want {
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
}

func TestUnbind_TakesEffectAtOnce(t *testing.T) {
	g := newFixture(t, Options{})
	g.Bind(testGSA, wiUser, testCaller)
	g.Bind(testGSA, wiUser, "user:dev@example.com")
	g.Unbind(testGSA, wiUser, testCaller)
	checkAPIError(t, g.call(g.federate(nil), testGSA, "generateAccessToken", object{"scope": cloudPlatform}), 403, "PERMISSION_DENIED", "getAccessToken")
}

func TestIAMCredentials_CheckBearerToken(t *testing.T) {
	g := newFixture(t, Options{})
	g.Bind(testGSA, tokenCreator, testCaller)
	g.Bind(testGSA, tokenCreator, "serviceAccount:other@demo-project.iam.gserviceaccount.com")
	for verb, body := range verbs() {
		t.Run(verb, func(t *testing.T) {
			live := g.federate(nil)
			if got := g.call(live, testGSA, verb, body); got.status != http.StatusOK {
				t.Fatalf("%d %s", got.status, got.body)
			}
			idToken := g.call(live, testGSA, "generateIdToken", object{"audience": "x"}).field(t, "token")
			for name, test := range map[string]struct{ bearer, reason string }{
				"none":          {"", "CREDENTIALS_MISSING"},
				"unknown":       {"ya29.fake-unknown", "ACCESS_TOKEN_TYPE_UNSUPPORTED"},
				"an ID token":   {idToken, "ACCESS_TOKEN_TYPE_UNSUPPORTED"},
				"the KSA token": {podToken(startTime, nil), "ACCESS_TOKEN_TYPE_UNSUPPORTED"},
			} {
				got := g.call(test.bearer, testGSA, verb, body)
				checkAPIError(t, got, 401, "UNAUTHENTICATED", "Expected OAuth 2 access token")
				if !strings.Contains(string(got.body), test.reason) {
					t.Errorf("%s: no %s in %s", name, test.reason, got.body)
				}
				if !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Bearer ") {
					t.Errorf("%s: the answer has no WWW-Authenticate challenge", name)
				}
			}
			narrow := g.accessToken("other@demo-project.iam.gserviceaccount.com", scopeUserInfoEmail)
			got := g.call(narrow, testGSA, verb, body)
			checkAPIError(t, got, 403, "PERMISSION_DENIED", "insufficient authentication scopes")
			if !strings.Contains(string(got.body), "ACCESS_TOKEN_SCOPE_INSUFFICIENT") {
				t.Errorf("%s", got.body)
			}
			if got := g.call(g.accessToken("other@demo-project.iam.gserviceaccount.com", scopeIAM), testGSA, verb, body); got.status != http.StatusOK {
				t.Errorf("only with the scope of IAM: %d %s", got.status, got.body)
			}
		})
	}
}

func TestIAMCredentials_ReportExpiredToken(t *testing.T) {
	g := newFixture(t, Options{})
	g.Bind(testGSA, tokenCreator, testCaller)
	token := g.federate(nil)
	body := object{"scope": cloudPlatform}
	g.clock.advance(time.Hour - time.Second)
	if got := g.call(token, testGSA, "generateAccessToken", body); got.status != http.StatusOK {
		t.Fatalf("a second before the expiry: %d %s", got.status, got.body)
	}
	g.clock.advance(time.Second)
	got := g.call(token, testGSA, "generateAccessToken", body)
	checkAPIError(t, got, 401, "UNAUTHENTICATED", "invalid authentication credentials")
	if !strings.Contains(string(got.body), "ACCESS_TOKEN_EXPIRED") {
		t.Errorf("%s", got.body)
	}
}

func TestServiceAccount_IsFoundByAddressAndID(t *testing.T) {
	g := newFixture(t, Options{})
	g.Bind(testGSA, wiUser, testCaller)
	token := g.federate(nil)
	g.mu.Lock()
	uniqueID := g.accounts[testGSA].uniqueID
	g.mu.Unlock()
	mint := func(project, name string) response {
		return g.do("POST", "/v1/projects/"+project+"/serviceAccounts/"+name+":generateAccessToken",
			map[string]string{"Authorization": "Bearer " + token}, `{"scope":["`+scopeCloudPlatform+`"]}`)
	}
	for name, path := range map[string]string{
		"raw":             testGSA,
		"percent-encoded": url.QueryEscape(testGSA),
		"upper case":      strings.ToUpper(testGSA),
		"unique id":       uniqueID,
	} {
		if got := mint("-", path); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	checkAPIError(t, mint("demo-project", testGSA), 400, "INVALID_ARGUMENT", "account ID")
	missing := "gone@demo-project.iam.gserviceaccount.com"
	checkAPIError(t, mint("-", missing), 404, "NOT_FOUND", "Gaia id not found for email "+missing)
	g.RemoveServiceAccount(testGSA)
	checkAPIError(t, mint("-", testGSA), 404, "NOT_FOUND", "Gaia id not found")
}

func TestIAMCredentials_RefuseUnknownVerb(t *testing.T) {
	g := newFixture(t, Options{})
	for _, verb := range []string{"disable", ""} {
		checkAPIError(t, g.call(g.federate(nil), testGSA, verb, nil), 404, "NOT_FOUND", "Method not found")
	}
}

func TestAllowAll_PermitsGenuineTokens(t *testing.T) {
	g := newFixture(t, Options{AllowAll: true})
	for verb, body := range verbs() {
		if got := g.call(g.federate(nil), "new@demo-project.iam.gserviceaccount.com", verb, body); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", verb, got.status, got.body)
		}
	}
	checkAPIError(t, g.call("", testGSA, "generateAccessToken", object{"scope": cloudPlatform}), 401, "UNAUTHENTICATED", "")
	checkAPIError(t, g.call(g.federate(nil), "no-address", "generateAccessToken", object{"scope": cloudPlatform}), 404, "NOT_FOUND", "no-address")
	checkOAuthError(t, g.form("/v1/token", exchangeForm(podToken(startTime, map[string]any{"aud": "x"}))), 400, "invalid_grant", "audience")
}

func TestAllowedLocations_HasNoBoundary(t *testing.T) {
	g := newFixture(t, Options{})
	got := g.do("GET", "/v1/projects/-/serviceAccounts/"+testGSA+"/allowedLocations", nil, "")
	if diff := cmp.Diff(object{"locations": []any{}, "encodedLocations": "0x0"}, got.decode(t)); diff != "" {
		t.Error(diff)
	}
}
