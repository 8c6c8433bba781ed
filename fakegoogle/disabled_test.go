package fakegoogle

import (
	"net/http"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

// "Existing access tokens for the service account are rejected, and requests for new
// access tokens will fail."
func TestDisabledServiceAccount_GetsAndUsesNoTokens(t *testing.T) {
	const hop = "hop@demo-project.iam.gserviceaccount.com"
	g := newFixture(t, Options{})
	g.Bind(testGSA, tokenCreator, testCaller)
	g.Bind(testGSA, tokenCreator, "serviceAccount:"+hop)
	g.Bind(hop, tokenCreator, testCaller)
	g.Bind(hop, tokenCreator, "serviceAccount:"+testGSA)
	key := g.key(testGSA, testTokenURI)
	assertion := sign(jose.RS256, key.key(), key.PrivateKeyID, key.assertionClaims(nil))
	old := g.accessToken(testGSA, scopeCloudPlatform, scopeUserInfoEmail)
	federated := g.federate(nil)
	access := object{"scope": cloudPlatform}
	calls := map[string]func() response{
		"generateAccessToken": func() response { return g.call(federated, testGSA, "generateAccessToken", access) },
		"generateIdToken":     func() response { return g.call(federated, testGSA, "generateIdToken", object{"audience": "x"}) },
		"signBlob":            func() response { return g.call(federated, testGSA, "signBlob", object{"payload": "eA=="}) },
		"signJwt":             func() response { return g.call(federated, testGSA, "signJwt", object{"payload": "{}"}) },
		"delegate": func() response {
			return g.call(federated, hop, "generateAccessToken", object{"scope": cloudPlatform, "delegates": []string{"projects/-/serviceAccounts/" + testGSA}})
		},
	}
	for name, call := range calls {
		if got := call(); got.status != http.StatusOK {
			t.Errorf("%s before: %d %s", name, got.status, got.body)
		}
	}
	g.DisableServiceAccount(testGSA)
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			checkAPIError(t, call(), 400, "FAILED_PRECONDITION", "Service account "+testGSA+" is disabled.")
		})
	}
	checkOAuthError(t, g.redeem(assertion), 400, "invalid_grant", "account not found")
	got := g.call(old, hop, "generateAccessToken", access)
	checkAPIError(t, got, 401, "UNAUTHENTICATED", "invalid authentication credentials")
	if details, _ := got.decode(t)["error"].(object)["details"].([]any); len(details) != 1 || details[0].(object)["reason"] != "ACCOUNT_STATE_INVALID" {
		t.Errorf("%s", got.body)
	}
	if _, live := g.Inspect(old); live {
		t.Error("its token is live")
	}
	checkOAuthError(t, g.do("GET", "/tokeninfo?access_token="+old, nil, ""), 400, "invalid_token", "")
	checkAPIError(t, g.call(federated, "nobody@demo-project.iam.gserviceaccount.com", "generateAccessToken", access), 404, "NOT_FOUND", "")

	g.EnableServiceAccount(testGSA)
	if got := g.call(old, hop, "generateAccessToken", access); got.status != http.StatusOK {
		t.Errorf("its old token, after it was enabled: %d %s", got.status, got.body)
	}
}

func TestUser_LogsInAgainAfterSession(t *testing.T) {
	g := newFixture(t, Options{SharedQuotaProject: true})
	ended, other := g.authorizedUser("dev@example.com", ""), g.authorizedUser("ops@example.com", "")
	access := g.form("/token", refreshForm(ended)).field(t, "access_token")
	g.EndSessions("DEV@example.com")
	got := g.form("/token", refreshForm(ended))
	want := object{
		"error": "invalid_grant", "error_description": "reauth related error (invalid_rapt)",
		"error_subtype": "invalid_rapt", "error_uri": "https://support.google.com/a/answer/9368756",
	}
	if diff := cmp.Diff(want, got.decode(t)); diff != "" || got.status != http.StatusBadRequest {
		t.Error(got.status, diff)
	}
	if _, live := g.Inspect(access); !live {
		t.Error("the access token ended with the session")
	}
	for name, file := range map[string]map[string]string{"other user": other, "new login": g.authorizedUser("dev@example.com", "")} {
		if got := g.form("/token", refreshForm(file)); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
}

func TestProvider_ChecksAttributeCondition(t *testing.T) {
	g := newEmptyFixture(t, Options{})
	g.addProvider(Provider{Condition: func(assertion map[string]any) bool {
		kubernetes, _ := assertion["kubernetes.io"].(map[string]any)
		return kubernetes["namespace"] == "shop"
	}})
	g.federate(nil)
	foreign := podToken(startTime, object{"kubernetes.io": object{"namespace": "other"}})
	checkOAuthError(t, g.form("/v1/token", exchangeForm(foreign)), 400, "unauthorized_client", "The given credential is rejected by the attribute condition.")
}
