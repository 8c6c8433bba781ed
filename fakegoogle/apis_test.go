package fakegoogle

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Every part of the refusal of a disabled API, of a call with a federated token.
func TestDisabledAPI_IsRefusedAsGoogleDoes(t *testing.T) {
	g := newFixture(t, Options{})
	g.Bind(testGSA, wiUser, testCaller)
	federated := g.federate(nil)
	g.DisableAPI("123456", ServiceIAMCredentials)
	got := g.call(federated, testGSA, "generateAccessToken", object{"scope": cloudPlatform})
	const url = "https://console.developers.google.com/apis/api/iamcredentials.googleapis.com/overview?project=123456"
	const text = "IAM Service Account Credentials API has not been used in project 123456 before or it is disabled. Enable it by visiting " + url +
		" then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry."
	want := object{"error": object{
		"code": 403.0, "status": "PERMISSION_DENIED", "message": text,
		"details": []any{
			object{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SERVICE_DISABLED", "domain": "googleapis.com", "metadata": object{
				"service": "iamcredentials.googleapis.com", "serviceTitle": "IAM Service Account Credentials API",
				"consumer": "projects/123456", "containerInfo": "123456", "activationUrl": url,
			}},
			object{"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "message": text},
			object{"@type": "type.googleapis.com/google.rpc.Help", "links": []any{object{"description": "Google developers console API activation", "url": url}}},
		},
	}}
	if diff := cmp.Diff(want, got.decode(t)); diff != "" || got.status != http.StatusForbidden {
		t.Error(got.status, diff)
	}
	g.EnableAPI("123456", ServiceIAMCredentials)
	if got := g.call(federated, testGSA, "generateAccessToken", object{"scope": cloudPlatform}); got.status != http.StatusOK {
		t.Errorf("after it was enabled: %d %s", got.status, got.body)
	}
}

// The project in which the API is disabled decides.
func TestDisabledAPI_IsThatOfTheConsumer(t *testing.T) {
	federated := func(g *fixture) string { return g.federate(nil) }
	account := func(g *fixture) string {
		return g.accessToken("app@owner-project.iam.gserviceaccount.com", scopeCloudPlatform)
	}
	user := func(g *fixture) string {
		return g.form("/token", refreshForm(g.authorizedUser("dev@example.com", ""))).field(t, "access_token")
	}
	for name, test := range map[string]struct {
		token    func(*fixture) string
		billed   string // X-Goog-User-Project
		consumer string
	}{
		"federated token":              {federated, "", "123456"},
		"federated token, with header": {federated, "billing", "billing"},
		"service account":              {account, "", "owner-project"},
		"service account, with header": {account, "billing", "billing"},
		"user":                         {user, "", "764086051850"},
		"user, with header":            {user, "billing", "billing"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, api := range []struct{ service, verb string }{{ServiceIAMCredentials, "generateAccessToken"}, {ServiceIAM, "getIamPolicy"}} {
				g := newFixture(t, Options{AllowAll: true})
				token := test.token(g)
				call := func() response {
					body := object{"scope": cloudPlatform}
					if api.verb == "getIamPolicy" {
						body = nil
					}
					return g.callBilled(token, test.billed, testGSA, api.verb, body)
				}
				for _, project := range []string{"123456", "billing", "owner-project", "764086051850", "demo-project"} {
					g.DisableAPI(project, api.service)
				}
				g.EnableAPI(test.consumer, api.service)
				if got := call(); got.status != http.StatusOK {
					t.Errorf("%s, enabled in %s only: %d %s", api.verb, test.consumer, got.status, got.body)
				}
				g.DisableAPI(test.consumer, api.service)
				checkAPIError(t, call(), 403, "PERMISSION_DENIED", "in project "+test.consumer+" before")
				for _, service := range Services() {
					if service != api.service {
						g.EnableAPI(test.consumer, api.service)
						g.DisableAPI(test.consumer, service)
						if got := call(); got.status != http.StatusOK {
							t.Errorf("%s with %s disabled: %d %s", api.verb, service, got.status, got.body)
						}
					}
				}
			}
		})
	}
}

func TestDisabledAPI_KnowsProjectsByBothNames(t *testing.T) {
	for _, name := range []string{"demo-project", "123456"} {
		g := newFixture(t, Options{AllowAll: true})
		must(0, g.AddGKEPool("demo-project", "123456"))
		federated := g.federate(nil)
		g.DisableAPI(name, ServiceIAMCredentials)
		checkAPIError(t, g.call(federated, testGSA, "generateAccessToken", object{"scope": cloudPlatform}), 403, "PERMISSION_DENIED", "123456")
		g.EnableAPI("demo-project", ServiceIAMCredentials)
		if got := g.call(federated, testGSA, "generateAccessToken", object{"scope": cloudPlatform}); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
}

func TestDisabledAPI_OfSTSRefusesExchange(t *testing.T) {
	g := newFixture(t, Options{})
	g.DisableAPI("123456", ServiceSTS)
	checkAPIError(t, g.form("/v1/token", exchangeForm(podToken(startTime, nil))), 403, "PERMISSION_DENIED", "Security Token Service API has not been used in project 123456")
	g.DisableAPI("654321", ServiceSTS)
	g.EnableAPI("123456", ServiceSTS)
	g.federate(nil)
}

func TestDisableAPI_PanicsForUnknownServices(t *testing.T) {
	defer func() {
		if got := fmt.Sprint(recover()); !strings.Contains(got, ServiceIAM) {
			t.Errorf("panic %q", got)
		}
	}()
	New(Options{}).DisableAPI("demo-project", "storage.googleapis.com")
}

func TestProhibitedAPI_IsRefusedAsVPCServiceControlsDo(t *testing.T) {
	g := newFixture(t, Options{AllowAll: true})
	federated := g.federate(nil)
	g.ProhibitAPI("123456", ServiceIAMCredentials)
	got := g.call(federated, testGSA, "generateIdToken", object{"audience": "x"})
	checkAPIError(t, got, 403, "PERMISSION_DENIED", "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: ")
	_, id, _ := strings.Cut(got.field(t, "error", "message"), "Identifier: ")
	details := got.decode(t)["error"].(object)["details"]
	want := []any{
		object{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SECURITY_POLICY_VIOLATED", "domain": "googleapis.com",
			"metadata": object{"service": ServiceIAMCredentials, "uid": id, "consumer": "projects/123456"}},
		object{"@type": "type.googleapis.com/google.rpc.PreconditionFailure", "violations": []any{object{"type": "VPC_SERVICE_CONTROLS", "description": id}}},
	}
	if diff := cmp.Diff(want, details); diff != "" || id == "" {
		t.Error(diff)
	}
}

// A user's token needs a quota project that the user may bill.
func TestUser_NeedsQuotaProject(t *testing.T) {
	g := newFixture(t, Options{})
	g.AddServiceAccount(testGSA)
	g.Bind(testGSA, tokenCreator, "user:dev@example.com")
	token := g.form("/token", refreshForm(g.authorizedUser("dev@example.com", ""))).field(t, "access_token")
	mint := func(project string) response {
		return g.callBilled(token, project, testGSA, "generateAccessToken", object{"scope": cloudPlatform})
	}
	checkAPIError(t, mint(""), 403, "PERMISSION_DENIED", "The iamcredentials.googleapis.com API requires a quota project, which is not set by default.")
	checkAPIError(t, mint("billing"), 403, "PERMISSION_DENIED", "Caller does not have required permission to use project billing.")
	g.Bind("projects/billing", "roles/serviceusage.serviceUsageConsumer", "user:dev@example.com")
	if got := mint("billing"); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	want := map[string]int{"": 1, "billing": 2}
	if diff := cmp.Diff(want, g.QuotaProjects()[MethodGenerateAccessToken]); diff != "" {
		t.Error(diff)
	}
	must(0, g.LoadState([]byte("sharedQuotaProject: true")))
	if got := mint(""); got.status != http.StatusOK {
		t.Errorf("with the shared project: %d %s", got.status, got.body)
	}
	file := string(g.AuthorizedUserWithQuota("dev@example.com", "", "billing"))
	if !strings.Contains(file, `"quota_project_id": "billing"`) {
		t.Error(file)
	}
}
