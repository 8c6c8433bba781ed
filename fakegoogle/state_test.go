package fakegoogle

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func testState() string {
	return fmt.Sprintf(`
providers:
- name: %s
  issuer: %s
  jwks: %s
  allowedAudiences: [sts]
serviceAccounts:
- empty@demo-project.iam.gserviceaccount.com
bindings:
- resource: %s
  role: roles/iam.workloadIdentityUser
  member: %s
- resource: projects/demo-project
  role: roles/viewer
  member: user:dev@example.com
users:
- email: dev@example.com
  clientID: client
  clientSecret: secret
  refreshToken: refresh
tokenLife: 10m
sharedQuotaProject: true
`, testProvider, testIssuer, testJWKS(), testGSA, testCaller)
}

func TestState_IsLoaded(t *testing.T) {
	for name, state := range map[string]string{
		"keys as object": testState(),
		"keys as text":   strings.Replace(testState(), "jwks: "+string(testJWKS()), "jwks: '"+string(testJWKS())+"'", 1),
	} {
		t.Run(name, func(t *testing.T) {
			g := newEmptyFixture(t, Options{})
			if err := g.LoadState([]byte(state)); err != nil {
				t.Fatal(err)
			}
			got := g.call(g.federate(object{"aud": "sts"}), testGSA, "generateAccessToken", object{"scope": cloudPlatform})
			if want := startTime.Add(10 * time.Minute).Format(time.RFC3339); got.field(t, "expireTime") != want {
				t.Errorf("%d %s", got.status, got.body)
			}
			user := g.form("/token", refreshForm(map[string]string{"client_id": "client", "client_secret": "secret", "refresh_token": "refresh"}))
			policy := g.call(user.field(t, "access_token"), "empty@demo-project.iam.gserviceaccount.com", "getIamPolicy", nil)
			if policy.status != http.StatusOK {
				t.Errorf("%s: %d %s", user.body, policy.status, policy.body)
			}
		})
	}
}

func TestState_CanBeEmpty(t *testing.T) {
	if err := New(Options{}).LoadState(nil); err != nil {
		t.Error(err)
	}
}

func TestState_ErrorsNameFieldAndRemedy(t *testing.T) {
	for name, test := range map[string]struct {
		old, new string
		want     []string // parts of the error
	}{
		"not YAML":                 {"providers:", "providers: [", []string{"line"}},
		"unknown field":            {"  issuer:", "  issuerURL: x\n  issuer:", []string{`"issuerURL"`, "(line 4)", "the top-level fields are pools"}},
		"field twice":              {"tokenLife: 10m", "tokenLife: 10m\ntokenLife: 11m", []string{"line", "tokenLife"}},
		"wrong type":               {"tokenLife: 10m", "tokenLife: [10m]", []string{"state: found a list instead of text in the field tokenLife: correct the YAML"}},
		"wrong duration":           {"tokenLife: 10m", "tokenLife: soon", []string{"tokenLife", "(line 21)", "10m"}},
		"negative duration":        {"tokenLife: 10m", "tokenLife: -1s", []string{"tokenLife"}},
		"provider's name":          {testProvider, testPool, []string{"providers[0]", "(line 3)", "NUMBER is the project's number"}},
		"provider's issuer":        {testIssuer, "http://x", []string{"providers[0]", "https://"}},
		"provider's keys":          {"jwks: " + string(testJWKS()), "jwks: {}", []string{"providers[0]", "kubectl get --raw /openid/v1/jwks"}},
		"file not read":            {"jwks: " + string(testJWKS()), "jwksFile: keys.json", []string{"providers[0].jwksFile", "(line 5)", "into jwks"}},
		"service account":          {"- empty@demo-project.iam.gserviceaccount.com", "- empty", []string{"serviceAccounts[0]", `"empty"`, "(line 8)", "NAME@PROJECT"}},
		"binding's resource":       {"resource: projects/demo-project", "resource: demo", []string{"bindings[1].resource", "projects/ID"}},
		"binding's role":           {"role: roles/viewer", "role: viewer", []string{"bindings[1].role", "(line 14)"}},
		"binding's member":         {"member: user:dev@example.com", "member: dev@example.com", []string{"bindings[1].member", "(line 15)", "user:EMAIL"}},
		"member's pool":            {"member: " + testCaller, "member: serviceAccount:demo-project.svc.id.goog[shop/cart]", []string{"bindings[0].member", "(line 12)", "Identity Pool does not exist"}},
		"pool's name":              {"providers:", "pools: [clusters]\nproviders:", []string{"pools[0]", "NUMBER is the project's number"}},
		"GKE pool's number":        {"providers:", "gkePools: [{projectID: demo-project}]\nproviders:", []string{"gkePools[0]", "digits only"}},
		"membership's name":        {"providers:", "memberships: [{name: kind}]\nproviders:", []string{"memberships[0]", "gkehub.googleapis.com"}},
		"user's address":           {"- email: dev@example.com", "- email: dev", []string{"users[0].email"}},
		"user without secret":      {"  clientSecret: secret\n", "", []string{"users[0]", "clientSecret"}},
		"provider without keys":    {"  jwks: " + string(testJWKS()) + "\n", "", []string{"providers[0]", "it holds no keys", "kubectl get --raw /openid/v1/jwks"}},
		"provider with empty keys": {"jwks: " + string(testJWKS()), `jwks: ""`, []string{"providers[0]", "it holds no keys"}},
		"membership without keys":  {"providers:", "memberships: [{name: '" + fleetName + "', workloadPool: fleet-project.svc.id.goog, projectNumber: \"987\", issuer: 'https://x'}]\nproviders:", []string{"memberships[0]", "it holds no keys"}},
	} {
		t.Run(name, func(t *testing.T) {
			state := strings.Replace(testState(), test.old, test.new, 1)
			if state == testState() {
				t.Fatal("the state was not changed")
			}
			s := New(Options{})
			err := s.LoadState([]byte(state))
			if err == nil {
				t.Fatal("no error")
			}
			for _, text := range test.want {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error %q does not contain %q", err, text)
				}
			}
			if len(s.pools)+len(s.gkePools)+len(s.providers)+len(s.accounts)+len(s.policies)+len(s.users) != 0 {
				t.Error("a part of the state was loaded")
			}
		})
	}
}
