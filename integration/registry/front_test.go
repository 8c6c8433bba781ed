package registry

import (
	"encoding/json"
	"fmt"
	"gke-metadata-emulator/integration/internal/standin"
	"gke-metadata-emulator/integration/internal/standintest"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	manifest   = testHost + "/v2/" + testImage + "/manifests/1"
	uploads    = testHost + "/v2/" + testImage + "/blobs/uploads/"
	blob       = testHost + "/v2/" + testImage + "/blobs/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	exchangeAt = testHost + "/v2/token?service=" + testHost + "&scope=repository:" + testImage + ":"

	deniedText    = `Permission "artifactregistry.repositories.%sArtifacts" denied on resource "` + testName + `" (or it may not exist)`
	anonymousText = `Unauthenticated request. Unauthenticated requests do not have permission "artifactregistry.repositories.%sArtifacts" on resource "` + testName + `" (or it may not exist)`
	failedText    = "authentication failed"
)

// Google's answers to each credential, in each place where a client can send one.
func TestRefusals(t *testing.T) {
	b := newBench(t)
	b.bind(admin)
	good := b.token(cloudPlatform)
	expired := b.google.ExpiredToken(t, "ci", "builder", testGSA, cloudPlatform)
	email, readOnly := b.token(auth+"userinfo.email"), b.token(auth+"devstorage.read_only")
	const insufficient = "Request had insufficient authentication scopes."
	for _, test := range []struct {
		name, method, target string
		credential           credential
		status               int
		code, message        string
	}{
		{"no token", "GET", manifest, nobody, 401, "UNAUTHORIZED", "authentication required"},
		{"no token at the root", "GET", testHost + "/v2/", nobody, 401, "UNAUTHORIZED", "authentication required"},
		{"an unknown token", "GET", manifest, asBearer("ya29.garbage"), 401, "UNAUTHORIZED", failedText},
		{"expired token", "GET", manifest, asBearer(expired), 401, "UNAUTHORIZED", failedText},
		{"another user", "GET", manifest, asPassword("admin", good), 401, "UNAUTHORIZED", failedText},
		{"empty token", "GET", manifest, asPassword("_token", ""), 401, "UNAUTHORIZED", failedText},
		{"no token to exchange", "GET", exchangeAt + "push,pull", nobody, 403, "DENIED", fmt.Sprintf(anonymousText, "upload")},
		{"no token to exchange, to pull", "GET", exchangeAt + "pull", nobody, 403, "DENIED", fmt.Sprintf(anonymousText, "download")},
		{"no token to exchange, for nothing", "GET", testHost + "/v2/token", nobody, 401, "UNAUTHORIZED", "authentication required"},
		{"an unknown token exchanged", "GET", exchangeAt + "pull", asPassword("_token", "ya29.garbage"), 401, "UNAUTHORIZED", failedText},
		{"expired token exchanged", "GET", exchangeAt + "pull", asPassword("oauth2accesstoken", expired), 401, "UNAUTHORIZED", failedText},
		{"token exchanged by another user", "GET", exchangeAt + "pull", asPassword("_json_key", good), 401, "UNAUTHORIZED", failedText},
		{"token of another scope exchanged", "GET", exchangeAt + "pull", asPassword("_token", email), 403, "DENIED", insufficient},
		{"token of another scope", "GET", manifest, asBearer(email), 403, "DENIED", insufficient},
		{"token to read exchanged to write", "GET", exchangeAt + "pull,push", asPassword("_token", readOnly), 403, "DENIED", insufficient},
		{"token to read writes", "POST", uploads, asBearer(readOnly), 403, "DENIED", insufficient},
		{"token to read removes", "DELETE", manifest, asBearer(readOnly), 403, "DENIED", insufficient},
		{"nothing that it has", "GET", testHost + "/v2/_catalog", asBearer(good), 404, "UNSUPPORTED", methodUnknown().message},
		{"no registry", "GET", "gcr.io/v2/", asBearer(good), 404, "UNSUPPORTED", methodUnknown().message},
		{"no image", "GET", testHost + "/v2/demo-project/images/manifests/1", asBearer(good), 400, "NAME_INVALID", nameInvalid().message},
		{"no image in the scope", "GET", testHost + "/v2/token?scope=repository:demo-project/images:pull", asPassword("_token", good), 400, "NAME_INVALID", nameInvalid().message},
		{"not there", "GET", manifest, asBearer(good), 404, "NAME_UNKNOWN", "Unknown name"}, // go-containerregistry's
	} {
		t.Run(test.name, func(t *testing.T) {
			b.t = t
			response, text := b.do(test.method, test.target, test.credential)
			b.refused(response, text, test.status, test.code, test.message)
			challenge := response.Header.Get("WWW-Authenticate")
			if (challenge != "") != (test.status == http.StatusUnauthorized) {
				t.Errorf("WWW-Authenticate %q", challenge)
			}
			if last := b.last(); last.Status != test.status || last.Method != test.method {
				t.Errorf("record %+v", last)
			}
		})
	}
}

// Each way to send a token, and what its scopes alone allow.
func TestCredentials(t *testing.T) {
	b := newBench(t)
	b.bind(writer)
	for _, scope := range []string{"cloud-platform", "devstorage.full_control", "devstorage.read_write", "devstorage.read_only", "cloud-platform.read-only"} {
		token := b.token(auth + scope)
		for name, sent := range map[string]credential{
			"bearer":            asBearer(token),
			"oauth2accesstoken": asPassword("oauth2accesstoken", token),
			"_token":            asPassword("_token", token),
			"_dcgcr":            asPassword("_dcgcr_2_2_1_token", token),
		} {
			if response, text := b.do("GET", testHost+"/v2/", sent); response.StatusCode != http.StatusOK {
				t.Errorf("%s with %s: %s %s", name, scope, response.Status, text)
			}
			if response, text := b.do("HEAD", blob, sent); response.StatusCode != http.StatusNotFound {
				t.Errorf("%s pulls with %s: %s %s", name, scope, response.Status, text)
			}
			want := http.StatusAccepted
			if strings.HasSuffix(scope, "only") {
				want = http.StatusForbidden
			}
			if response, text := b.do("POST", uploads, sent); response.StatusCode != want {
				t.Errorf("%s pushes with %s: %s %s, want %d", name, scope, response.Status, text, want)
			}
		}
	}
}

func TestChallenge(t *testing.T) {
	b := newBench(t)
	const realm = `Bearer realm="https://` + testHost + `/v2/token",service="` + testHost + `"`
	for target, want := range map[string]string{
		testHost + "/v2/": realm,
		manifest:          realm + `,scope="repository:` + testImage + `:pull"`,
	} {
		response, _ := b.do("GET", target, nobody)
		if got := response.Header.Get("WWW-Authenticate"); got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
}

// exchanged is a token of the registry's.
func (b *bench) exchanged(actions, token string) (string, int) {
	b.t.Helper()
	response, text := b.do("GET", exchangeAt+actions, asPassword("oauth2accesstoken", token))
	var answer struct {
		Token     string `json:"token"`
		ExpiresIn int    `json:"expires_in"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || response.StatusCode != http.StatusOK || answer.Token == "" {
		b.t.Fatalf("%s %s %v", response.Status, text, err)
	}
	return answer.Token, answer.ExpiresIn
}

func TestExchangedToken(t *testing.T) {
	b := newBench(t)
	b.bind(writer)
	access := b.token(cloudPlatform)
	pull, left := b.exchanged("pull", access)
	if left < 3500 || left > 3600 {
		t.Errorf("it has %d s left", left)
	}
	both, _ := b.exchanged("push,pull", access)
	if pull == access || both == pull {
		t.Error("a token of the registry's is no new one")
	}
	for _, test := range []struct {
		name, method, target, token string
		status                      int
	}{
		{"pull", "HEAD", blob, pull, 404},
		{"pull with one to push", "HEAD", blob, both, 404},
		{"push", "POST", uploads, both, 202},
		{"push with one to pull", "POST", uploads, pull, 401},
		{"pull of another image", "HEAD", strings.Replace(blob, "team/app", "team/other", 1), pull, 401},
		{"pull elsewhere", "HEAD", strings.Replace(blob, "europe-west1", "europe-west3", 1), pull, 403},
		{"root", "GET", testHost + "/v2/", pull, 200},
	} {
		if response, text := b.do(test.method, test.target, asBearer(test.token)); response.StatusCode != test.status {
			t.Errorf("%s: %s %s, want %d", test.name, response.Status, text, test.status)
		}
	}
	if response, _ := b.do("POST", uploads, asPassword("_token", both)); response.StatusCode != http.StatusUnauthorized {
		t.Errorf("a token of the registry's as a password: %s", response.Status)
	}
	response, _ := b.do("POST", uploads, asBearer(pull))
	if want := `,scope="repository:` + testImage + `:push,pull"`; !strings.HasSuffix(response.Header.Get("WWW-Authenticate"), want) {
		t.Errorf("challenge %s, want %s at the end", response.Header.Get("WWW-Authenticate"), want)
	}
}

// A token of the registry's ends with the access token that it was given for.
func TestExchangedToken_Expires(t *testing.T) {
	b := newBench(t)
	b.bind(reader)
	token, left := b.exchanged("pull", b.token(cloudPlatform))
	later := time.Now().Add(time.Duration(left+1) * time.Second)
	b.now = func() time.Time { return later }
	if response, text := b.do("HEAD", blob, asBearer(token)); response.StatusCode != http.StatusUnauthorized {
		t.Errorf("%s %s", response.Status, text)
	}
}

func TestExchangedToken_NumberIsBounded(t *testing.T) {
	b := newBench(t)
	live := grant{Caller: standin.Caller{ExpiresAt: time.Now().Add(time.Hour)}}
	for range maxTokens + 10 {
		b.issue(live)
	}
	if n := len(b.tokens); n > maxTokens {
		t.Errorf("%d tokens are remembered", n)
	}
	b.tokens = map[string]grant{}
	valid := b.issue(live)
	for range maxTokens + 10 {
		b.issue(grant{})
	}
	if _, ok := b.issued(valid); !ok {
		t.Error("a token was forgotten while there were expired ones")
	}
}

func TestRecord(t *testing.T) {
	b := newBench(t)
	b.bind(writer)
	access := b.token(cloudPlatform)
	own, _ := b.exchanged("push,pull", access)
	exchange := b.last()
	b.do("POST", uploads, asBearer(own))
	push := b.last()
	for _, got := range []Record{exchange, push} {
		if got.Principal != testPrincipal || got.KSA != "ci/builder" || len(got.Through) != 1 || got.Through[0] != standintest.Principal("ci", "builder") {
			t.Errorf("caller: %+v", got)
		}
		if got.Repository != testName || got.Remaining < 59*time.Minute || got.Remaining > time.Hour {
			t.Errorf("what: %+v", got)
		}
	}
	if exchange.Path != "/v2/token" || exchange.Method != "GET" || exchange.Status != http.StatusOK {
		t.Errorf("exchange: %+v", exchange)
	}
	if push.Path != "/v2/"+testImage+"/blobs/uploads/" || push.Method != "POST" || push.Status != http.StatusAccepted {
		t.Errorf("push: %+v", push)
	}
	b.do("GET", manifest, asBearer("ya29.garbage"))
	if got := b.last(); got.Principal != "" || got.KSA != "" || got.Status != http.StatusUnauthorized {
		t.Errorf("record of a refused token: %+v", got)
	}
	b.do("GET", exchangeAt+"pull", asPassword("_token", "ya29.garbage"))
	everything := b.log.String() + fmt.Sprintf("%+v", b.Records())
	for _, secret := range []string{access, own, "garbage"} {
		if strings.Contains(everything, secret) {
			t.Error("there is a token in the log or the records")
		}
	}
	if !strings.Contains(everything, "path=/v2/"+testImage+"/blobs/uploads/") {
		t.Errorf("the log does not name the request: %s", b.log)
	}
}

func TestRecord_NumberIsBounded(t *testing.T) {
	b := newBench(t)
	for i := range maxRecords + 3 {
		b.add(t.Context(), Record{Status: i})
	}
	if records := b.Records(); len(records) != maxRecords || records[0].Status != 3 || records[maxRecords-1].Status != maxRecords+2 {
		t.Errorf("%d records", len(records))
	}
}

func TestServer_ReportsThatFakegoogleIsDown(t *testing.T) {
	b := newBench(t)
	for _, fake := range []string{"http://127.0.0.1:1", b.google.URL + "/nowhere"} {
		access, err := standin.NewTokens(fake, nil)
		if err != nil {
			t.Fatal(err)
		}
		b.access = access
		response, text := b.do("GET", manifest, asBearer("ya29.any"))
		b.refused(response, text, http.StatusServiceUnavailable, "UNAVAILABLE", backendDown().message)
		if !strings.Contains(b.log.String(), "is fakegoogle running there?") && !strings.Contains(b.log.String(), "is it fakegoogle?") {
			t.Errorf("the log has no reason: %s", b.log)
		}
	}
}

func TestNew_RefusesInvalidOptions(t *testing.T) {
	for _, options := range []Options{{}, {Fake: "127.0.0.1:8988", Policy: new(Policies)}, {Fake: "http://127.0.0.1:8988"}} {
		if _, err := New(options); err == nil || !strings.Contains(err.Error(), "give ") {
			t.Errorf("%+v: %v", options, err)
		}
	}
}
