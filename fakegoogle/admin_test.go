package fakegoogle

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The admin API alone configures a Google, and returns the grant of a token.
func TestAdminAPI_ConfiguresServer(t *testing.T) {
	g := newEmptyFixture(t, Options{})
	admin := func(method, path, body string) response {
		t.Helper()
		got := g.do(method, "/fakegoogle/v1/"+path, nil, body)
		if got.status != http.StatusOK {
			t.Fatalf("%s %s: %d %s", method, path, got.status, got.body)
		}
		return got
	}
	admin("PUT", "providers", `{"name":"`+testProvider+`","issuer":"`+testIssuer+`","jwks":`+string(testJWKS())+`}`)
	admin("PUT", "serviceAccounts/"+testGSA, "")
	binding := `{"resource":"` + testGSA + `","role":"roles/iam.workloadIdentityUser","member":"` + testCaller + `"}`
	admin("PUT", "bindings", binding)

	admin("PUT", "bindings", `{"resource":"projects/billing","role":"roles/serviceusage.serviceUsageConsumer","member":"`+testCaller+`"}`)
	federated := g.federate(nil)
	mint := func() response {
		return g.callBilled(federated, "billing", testGSA, "generateAccessToken", object{"scope": cloudPlatform})
	}
	got := g.do("GET", "/fakegoogle/v1/token", map[string]string{"Authorization": "Bearer " + mint().field(t, "accessToken")}, "")
	want := object{
		"principal":     "serviceAccount:" + testGSA,
		"through":       []any{testCaller},
		"pod":           "shop/cart-7d4",
		"pod_uid":       "5b2d",
		"ksa":           "shop/cart",
		"scopes":        []any{scopeCloudPlatform},
		"expires_at":    "2026-01-02T04:04:05Z",
		"quota_project": "billing",
	}
	if diff := cmp.Diff(want, got.decode(t)); diff != "" {
		t.Error(diff)
	}

	admin("PUT", "faults/iamcredentials.generateAccessToken", `{"status":503,"retryAfter":"2s","times":1}`)
	if got := mint(); got.status != 503 || got.header.Get("Retry-After") != "2" {
		t.Errorf("%d %s", got.status, got.body)
	}
	admin("PUT", "faults/iamcredentials.generateAccessToken", `{"status":503}`)
	admin("DELETE", "faults", "")
	if got := mint(); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	if counters := admin("GET", "counters", "").decode(t); counters["iamcredentials.generateAccessToken"] != 3.0 || counters["sts.token"] != 1.0 {
		t.Errorf("%v", counters)
	}
	admin("DELETE", "pools", `{"name":"`+testPool+`"}`)
	checkAPIError(t, mint(), 403, "PERMISSION_DENIED", "")
	admin("POST", "pools/undelete", `{"name":"`+testPool+`"}`)
	admin("DELETE", "providers", `{"name":"`+testProvider+`"}`)
	checkOAuthError(t, g.form("/v1/token", exchangeForm(podToken(startTime, nil))), 400, "invalid_target", "")
	admin("POST", "providers/undelete", `{"name":"`+testProvider+`"}`)
	admin("PUT", "pools", `{"name":"`+otherPool+`"}`)
	admin("PUT", "gkePools", `{"projectID":"demo-project","projectNumber":"123456"}`)
	admin("PUT", "memberships", `{"name":"`+fleetName+`","workloadPool":"`+fleetPool+`","projectNumber":"777","issuer":"`+testIssuer+`","jwks":`+string(testJWKS())+`}`)
	for _, member := range []string{"principalSet:" + otherPool + "/*", gkePoolKSA, fleetKSA} {
		admin("PUT", "bindings", `{"resource":"`+testGSA+`","role":"roles/viewer","member":"`+member+`"}`)
	}
	if got := g.fleetExchange(nil); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	for _, state := range []string{"disabled", "prohibited"} {
		admin("PUT", "apis", `{"project":"billing","service":"iamcredentials.googleapis.com","state":"`+state+`"}`)
		checkAPIError(t, mint(), 403, "PERMISSION_DENIED", "")
	}
	admin("PUT", "apis", `{"project":"billing","service":"iamcredentials.googleapis.com","state":"enabled"}`)
	if got := mint(); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	if calls := admin("GET", "quotaProjects", "").decode(t); calls["iamcredentials.generateAccessToken"].(object)["billing"] != 7.0 {
		t.Error(calls)
	}
	admin("POST", "serviceAccounts/"+testGSA+"/disable", "")
	checkAPIError(t, mint(), 400, "FAILED_PRECONDITION", "disabled")
	admin("POST", "serviceAccounts/"+testGSA+"/enable", "")
	admin("DELETE", "bindings", binding)
	checkAPIError(t, mint(), 403, "PERMISSION_DENIED", "")
	admin("DELETE", "serviceAccounts/"+testGSA, "")
	checkAPIError(t, mint(), 404, "NOT_FOUND", "")

	if file := admin("POST", "serviceAccounts/"+testGSA+"/keys", `{"tokenURI":"`+testTokenURI+`"}`); file.field(t, "client_email") != testGSA || file.field(t, "token_uri") != testTokenURI {
		t.Errorf("%s", file.body)
	}
	if file := admin("POST", "users", `{"email":"dev@example.com","tokenURI":"`+testTokenURI+`"}`); file.field(t, "refresh_token") == "" {
		t.Errorf("%s", file.body)
	}
	ended := g.authorizedUser("dev@example.com", "")
	admin("POST", "users/dev@example.com/endSessions", "")
	checkOAuthError(t, g.form("/token", refreshForm(ended)), 400, "invalid_grant", "invalid_rapt")
	admin("PUT", "state", "tokenLife: 7s\n")
	if got := g.form("/v1/token", exchangeForm(podToken(startTime, nil))); got.decode(t)["expires_in"] != 7.0 {
		t.Errorf("%s", got.body)
	}
}

func TestAdminAPI_RefusesInvalidRequests(t *testing.T) {
	g := newFixture(t, Options{})
	expired := g.accessToken(testGSA, scopeIAM)
	g.clock.advance(time.Hour)
	for name, test := range map[string]struct {
		method, path, body string
		text               string
	}{
		"unknown method":    {"PUT", "faults/sts.exchange", `{}`, "sts.token"},
		"no error status":   {"PUT", "faults/sts.token", `{"status":200}`, "400 to 599"},
		"latency":           {"PUT", "faults/sts.token", `{"latency":"1"}`, "unit"},
		"misspelt field":    {"PUT", "faults/sts.token", `{"code":1}`, "code"},
		"member":            {"PUT", "bindings", `{"resource":"` + testGSA + `","role":"roles/viewer","member":"dev"}`, "user:EMAIL"},
		"role":              {"DELETE", "bindings", `{"resource":"` + testGSA + `","role":"viewer","member":"user:dev@example.com"}`, "roles/"},
		"misspelt binding":  {"PUT", "bindings", `{"gsa":"x"}`, "gsa"},
		"API's state":       {"PUT", "apis", `{"project":"x","service":"iam.googleapis.com","state":"off"}`, "prohibited"},
		"API's service":     {"PUT", "apis", `{"project":"x","service":"x","state":"enabled"}`, "sts.googleapis.com"},
		"API's project":     {"PUT", "apis", `{"service":"iam.googleapis.com","state":"enabled"}`, "project"},
		"API's fields":      {"PUT", "apis", `{"name":"x"}`, "name"},
		"provider":          {"PUT", "providers", `{"name":"x"}`, "providers[0]"},
		"membership":        {"PUT", "memberships", `{"name":"x"}`, "memberships[0]"},
		"pool":              {"PUT", "pools", `{"name":"x"}`, "//iam.googleapis.com/"},
		"pool of GKE":       {"PUT", "gkePools", `{"projectID":"x"}`, "gkePools[0]"},
		"member's pool":     {"PUT", "bindings", `{"resource":"` + testGSA + `","role":"roles/viewer","member":"` + gkePoolKSA + `"}`, "Identity Pool does not exist (demo-project.svc.id.goog)"},
		"service account":   {"PUT", "serviceAccounts/x", ``, "NAME@PROJECT"},
		"state":             {"PUT", "state", "providerz: []", "providerz"},
		"provider's fields": {"PUT", "providers", `{"nom":"x"}`, "nom"},
		"disabled account":  {"POST", "serviceAccounts/x/disable", ``, "not an e-mail address"},
		"key's fields":      {"POST", "serviceAccounts/" + testGSA + "/keys", `{"token":"x"}`, "token"},
		"user's fields":     {"POST", "users", `{"mail":"x"}`, "mail"},
	} {
		t.Run(name, func(t *testing.T) {
			checkAPIError(t, g.do(test.method, "/fakegoogle/v1/"+test.path, nil, test.body), 400, "INVALID_ARGUMENT", test.text)
		})
	}
	checkAPIError(t, g.do("GET", "/fakegoogle/v1/token", nil, ""), 401, "UNAUTHENTICATED", "")
	checkAPIError(t, g.do("GET", "/fakegoogle/v1/token", map[string]string{"Authorization": "Bearer " + expired}, ""), 401, "UNAUTHENTICATED", "")
}
