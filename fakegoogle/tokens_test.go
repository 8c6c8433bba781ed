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

func TestInspectKnowsLiveTokensOnly(t *testing.T) {
	g := newGoogle(t, Options{})
	token := g.accessToken(testGSA, scopeIAM)
	if _, ok := g.Inspect("ya29.fake-x"); ok {
		t.Error("an unknown token is known")
	}
	granted, ok := g.Inspect(token)
	if !ok {
		t.Fatal("a live token is unknown")
	}
	granted.Scopes[0] = "changed"
	if again, _ := g.Inspect(token); again.Scopes[0] != scopeIAM {
		t.Error("the caller changed the grant")
	}
	g.clock.advance(time.Hour)
	if _, ok := g.Inspect(token); ok {
		t.Error("an expired token is known")
	}
	other := g.accessToken(testGSA, scopeIAM)
	g.RemoveServiceAccount(testGSA)
	if _, ok := g.Inspect(other); ok {
		t.Error("the token of a removed service account is known")
	}
}

func TestExpiredTokensAreForgotten(t *testing.T) {
	g := newGoogle(t, Options{TokenLife: time.Minute})
	for range 100 {
		for range minPrune / 10 {
			g.accessToken(testGSA, scopeIAM)
		}
		g.clock.advance(time.Minute)
	}
	if n := len(g.grants.byToken); n > 2*minPrune {
		t.Errorf("%d tokens are kept, though %d at most live at a time", n, minPrune/10)
	}
	live := g.accessToken(testGSA, scopeIAM)
	for range 2 * minPrune {
		g.accessToken(testGSA, scopeIAM)
	}
	if _, ok := g.Inspect(live); !ok {
		t.Error("a live token was forgotten")
	}
}

func TestTokensAreNotLogged(t *testing.T) {
	var log bytes.Buffer
	g := newGoogle(t, Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	g.Bind(testGSA, tokenCreator, testCaller)
	g.Bind(testGSA, "roles/viewer", testCaller)

	subject := podToken(start, nil)
	federated := g.form("/v1/token", exchangeForm(subject)).str(t, "access_token")
	access := g.call(federated, testGSA, "generateAccessToken", object{"scope": cloudPlatform}).str(t, "accessToken")
	id := g.call(federated, testGSA, "generateIdToken", object{"audience": "a"}).str(t, "token")
	key := g.key(testGSA, testTokenURI)
	assertion := sign(jose.RS256, key.key(), key.PrivateKeyID, key.assertionClaims(nil))
	g.redeem(assertion)
	bad := sign(jose.RS256, strangeRSA(), "rsa", podClaims(start, nil))
	g.form("/v1/token", exchangeForm(bad))
	g.call("ya29.secret", testGSA, "getIamPolicy", nil)
	g.do("GET", "/tokeninfo?access_token="+access, nil, "")

	for _, secret := range []string{subject, federated, access, id, assertion, bad, "ya29"} {
		if strings.Contains(log.String(), secret[:min(len(secret), 40)]) {
			t.Errorf("a token is in the log: %s", log.String())
		}
	}
	for _, said := range []string{testCaller, testGSA, "sts.token", "status=401"} {
		if !strings.Contains(log.String(), said) {
			t.Errorf("the log does not say %s: %s", said, log.String())
		}
	}
}

// TestUseFromManyGoroutines is for the race detector.
func TestUseFromManyGoroutines(t *testing.T) {
	g := newGoogle(t, Options{})
	g.Bind(testGSA, tokenCreator, testCaller)
	token := g.federate(nil)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 5 {
				g.form("/v1/token", exchangeForm(podToken(start, nil)))
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
