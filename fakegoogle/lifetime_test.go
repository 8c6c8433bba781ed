package fakegoogle

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"
)

func TestIAMCredentials_CheckRequest(t *testing.T) {
	for name, test := range map[string]struct {
		verb string
		body object
		text string // part of the 400's message; empty means 200
	}{
		"lifetime of an hour":       {"generateAccessToken", object{"scope": cloudPlatform, "lifetime": "3600s"}, ""},
		"lifetime with a fraction":  {"generateAccessToken", object{"scope": cloudPlatform, "lifetime": "59.5s"}, ""},
		"no lifetime":               {"generateAccessToken", object{"scope": cloudPlatform}, ""},
		"the empty scope":           {"generateAccessToken", object{"scope": []string{""}}, ""},
		"lifetime over an hour":     {"generateAccessToken", object{"scope": cloudPlatform, "lifetime": "3601s"}, "allowServiceAccountCredentialLifetimeExtension"},
		"lifetime zero":             {"generateAccessToken", object{"scope": cloudPlatform, "lifetime": "0s"}, "larger then zero"},
		"lifetime below zero":       {"generateAccessToken", object{"scope": cloudPlatform, "lifetime": "-1s"}, "larger then zero"},
		"lifetime without unit":     {"generateAccessToken", object{"scope": cloudPlatform, "lifetime": "3600"}, "lifetime"},
		"lifetime as Go writes it":  {"generateAccessToken", object{"scope": cloudPlatform, "lifetime": "1h0m0s"}, "lifetime"},
		"lifetime as a number":      {"generateAccessToken", object{"scope": cloudPlatform, "lifetime": 3600}, "Invalid JSON payload"},
		"lifetime out of range":     {"generateAccessToken", object{"scope": cloudPlatform, "lifetime": "99999999999999999999s"}, "lifetime"},
		"no scope":                  {"generateAccessToken", object{}, "Scope"},
		"unknown scope":             {"generateAccessToken", object{"scope": []string{"cloud-platform"}}, "invalid argument"},
		"scopes joined":             {"generateAccessToken", object{"scope": []string{scopeIAM + "," + scopeCloudPlatform}}, "invalid argument"},
		"scope as text":             {"generateAccessToken", object{"scope": scopeCloudPlatform}, "Invalid JSON payload"},
		"misspelt field":            {"generateAccessToken", object{"scope": cloudPlatform, "lifeTime2": "1s"}, `Unknown name "lifeTime2"`},
		"delegate by address alone": {"generateAccessToken", object{"scope": cloudPlatform, "delegates": []string{testGSA}}, "delegates"},
		"delegate in its project":   {"generateAccessToken", object{"scope": cloudPlatform, "delegates": []string{"projects/demo-project/serviceAccounts/" + testGSA}}, "delegates"},
		"ID token with e-mail":      {"generateIdToken", object{"audience": "a", "includeEmail": true}, ""},
		"no audience":               {"generateIdToken", object{"includeEmail": true}, "Audience"},
		"audience as list":          {"generateIdToken", object{"audience": []string{"a"}}, "Invalid JSON payload"},
		"blob, URL-safe, unpadded":  {"signBlob", object{"payload": "_-8"}, ""},
		"blob is no base64":         {"signBlob", object{"payload": "%"}, "Base64"},
		"no blob":                   {"signBlob", object{}, "Payload"},
		"JWT with exp":              {"signJwt", object{"payload": `{"exp":` + unix(startTime.Add(12*time.Hour)) + `}`}, ""},
		"JWT with exp in 12 h and 1 s": {"signJwt", object{"payload": `{"exp":` + unix(startTime.Add(12*time.Hour+time.Second)) + `}`},
			"no more than 12 hours"},
		"JWT with exp in the past":   {"signJwt", object{"payload": `{"exp":` + unix(startTime) + `}`}, "in the future"},
		"JWT with exp as fraction":   {"signJwt", object{"payload": `{"exp":1.5}`}, "integer"},
		"JWT claims that are a list": {"signJwt", object{"payload": `[1]`}, "JSON object"},
		"JWT claims are no JSON":     {"signJwt", object{"payload": `{`}, "JSON object"},
		"no JWT claims":              {"signJwt", object{}, "JSON object"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newFixture(t, Options{})
			g.Bind(testGSA, tokenCreator, testCaller)
			got := g.call(g.federate(nil), testGSA, test.verb, test.body)
			if test.text == "" {
				if got.status != http.StatusOK {
					t.Errorf("%d %s", got.status, got.body)
				}
				return
			}
			checkAPIError(t, got, 400, "INVALID_ARGUMENT", test.text)
		})
	}
}

func unix(t time.Time) string { return string(must(json.Marshal(t.Unix()))) }

func TestGenerateAccessToken_EmptyScopeMeansCloudPlatform(t *testing.T) {
	g := newFixture(t, Options{})
	g.Bind(testGSA, wiUser, testCaller)
	granted, _ := g.Inspect(g.call(g.federate(nil), testGSA, "generateAccessToken", object{"scope": []string{""}}).field(t, "accessToken"))
	if !slices.Equal(granted.Scopes, cloudPlatform) {
		t.Errorf("scopes %v", granted.Scopes)
	}
}

func TestGenerateAccessToken_LifetimeIsLimited(t *testing.T) {
	for name, test := range map[string]struct {
		opts     Options
		lifetime string
		want     time.Duration // 0 means a refusal
	}{
		"default":                        {Options{}, "", time.Hour},
		"as requested":                   {Options{}, "90s", 90 * time.Second},
		"limited by the server":          {Options{TokenLifetime: time.Minute}, "3600s", time.Minute},
		"extended":                       {Options{ExtendedLifetime: true, TokenLifetime: 24 * time.Hour}, "43200s", 12 * time.Hour},
		"extended, default":              {Options{ExtendedLifetime: true, TokenLifetime: 24 * time.Hour}, "", time.Hour},
		"more than the extension allows": {Options{ExtendedLifetime: true, TokenLifetime: 24 * time.Hour}, "43201s", 0},
	} {
		t.Run(name, func(t *testing.T) {
			g := newFixture(t, test.opts)
			g.Bind(testGSA, wiUser, testCaller)
			got := g.call(g.federate(nil), testGSA, "generateAccessToken", object{"scope": cloudPlatform, "lifetime": test.lifetime})
			if test.want == 0 {
				checkAPIError(t, got, 400, "INVALID_ARGUMENT", "12 hours")
				return
			}
			if want := startTime.Add(test.want).Format(time.RFC3339); got.field(t, "expireTime") != want {
				t.Errorf("expireTime %s, want %s", got.body, want)
			}
		})
	}
}

func TestSetTokenLifetime_LimitsNewTokens(t *testing.T) {
	g := newFixture(t, Options{})
	old := g.federate(nil)
	g.SetTokenLifetime(5 * time.Second)
	fresh := g.federate(nil)
	g.clock.advance(5 * time.Second)
	_, oldIsLive := g.Inspect(old)
	_, newIsLive := g.Inspect(fresh)
	if !oldIsLive || newIsLive {
		t.Errorf("the token from before is live: %v, the token from after: %v; want true, false", oldIsLive, newIsLive)
	}
}
