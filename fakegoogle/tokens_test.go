package fakegoogle

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestInspect_KnowsOnlyLiveTokens(t *testing.T) {
	g := newFixture(t, Options{})
	token := g.accessToken(testGSA, scopeIAM)
	if _, ok := g.Inspect("ya29.fake-x"); ok {
		t.Error("Inspect knows a token that was never issued")
	}
	granted, ok := g.Inspect(token)
	if !ok {
		t.Fatal("Inspect does not know a live token")
	}
	granted.Scopes[0] = "changed"
	if second, _ := g.Inspect(token); second.Scopes[0] != scopeIAM {
		t.Error("the caller's change of the result changed the grant")
	}
	g.clock.advance(time.Hour)
	if _, ok := g.Inspect(token); ok {
		t.Error("Inspect knows an expired token")
	}
	other := g.accessToken(testGSA, scopeIAM)
	g.RemoveServiceAccount(testGSA)
	if _, ok := g.Inspect(other); ok {
		t.Error("Inspect knows the token of a removed service account")
	}
}

func TestGrants_ExpiredTokensArePruned(t *testing.T) {
	g := newFixture(t, Options{TokenLifetime: time.Minute})
	for range 100 {
		for range minPruneAt / 10 {
			g.accessToken(testGSA, scopeIAM)
		}
		g.clock.advance(time.Minute)
	}
	if n := len(g.grants.byToken); n > 2*minPruneAt {
		t.Errorf("%d tokens are kept, though at most %d are live at a time", n, minPruneAt/10)
	}
	live := g.accessToken(testGSA, scopeIAM)
	for range 2 * minPruneAt {
		g.accessToken(testGSA, scopeIAM)
	}
	if _, ok := g.Inspect(live); !ok {
		t.Error("a live token was pruned")
	}
}

func TestLog_HasNoTokens(t *testing.T) {
	var log bytes.Buffer
	g := newFixture(t, Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	g.Bind(testGSA, tokenCreator, testCaller)
	g.Bind(testGSA, "roles/viewer", testCaller)

	subject := podToken(startTime, nil)
	federated := g.form("/v1/token", exchangeForm(subject)).field(t, "access_token")
	access := g.call(federated, testGSA, "generateAccessToken", object{"scope": cloudPlatform}).field(t, "accessToken")
	id := g.call(federated, testGSA, "generateIdToken", object{"audience": "a"}).field(t, "token")
	key := g.key(testGSA, testTokenURI)
	assertion := sign(jose.RS256, key.key(), key.PrivateKeyID, key.assertionClaims(nil))
	g.redeem(assertion)
	bad := sign(jose.RS256, otherRSA(), "rsa", podClaims(startTime, nil))
	g.form("/v1/token", exchangeForm(bad))
	g.call("ya29.secret", testGSA, "getIamPolicy", nil)
	g.do("GET", "/tokeninfo?access_token="+access, nil, "")

	for _, secret := range []string{subject, federated, access, id, assertion, bad, "ya29"} {
		if strings.Contains(log.String(), secret[:min(len(secret), 40)]) {
			t.Errorf("a token is in the log: %s", log.String())
		}
	}
	for _, text := range []string{testCaller, testGSA, "sts.token", "status=401"} {
		if !strings.Contains(log.String(), text) {
			t.Errorf("the log does not contain %s: %s", text, log.String())
		}
	}
}

// The race detector is the assertion of this test.
func TestServer_IsSafeForConcurrentUse(t *testing.T) {
	g := newFixture(t, Options{})
	g.Bind(testGSA, tokenCreator, testCaller)
	token := g.federate(nil)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 5 {
				g.form("/v1/token", exchangeForm(podToken(startTime, nil)))
				g.call(token, testGSA, "generateAccessToken", object{"scope": cloudPlatform})
				g.call(token, testGSA, "signBlob", object{"payload": "AAAA"})
				g.call(token, testGSA, "getIamPolicy", nil)
				g.do("GET", "/service_accounts/v1/jwk/"+testGSA, nil, "")
				g.Bind(testGSA, wiUser, "user:a@example.com")
				g.Unbind(testGSA, wiUser, "user:a@example.com")
				g.AddServiceAccount("x@p.iam.gserviceaccount.com")
				g.RemoveServiceAccount("x@p.iam.gserviceaccount.com")
				g.SetFault(MethodOAuth2Token, Fault{Status: 500})
				g.ClearFaults()
				g.Inspect(token)
				g.Counters()
			}
		})
	}
	wait.Wait()
}
