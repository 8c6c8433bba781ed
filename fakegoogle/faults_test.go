package fakegoogle

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

// everyMethod returns one valid call per method.
func everyMethod(t *testing.T, g *fixture) map[string]func() response {
	t.Helper()
	g.Bind(testGSA, tokenCreator, testCaller)
	g.Bind(testGSA, "roles/viewer", testCaller)
	key := g.key(testGSA, testTokenURI)
	federated, own := g.federate(nil), g.accessToken(testGSA, scopeCloudPlatform)
	calls := map[string]func() response{
		"sts.token": func() response { return g.form("/v1/token", exchangeForm(podToken(startTime, nil))) },
		"oauth2.token": func() response {
			return g.redeem(sign(jose.RS256, key.key(), key.PrivateKeyID, key.assertionClaims(nil)))
		},
		"oauth2.tokeninfo": func() response {
			return g.do("GET", "/tokeninfo?access_token="+own, nil, "")
		},
		"iam.getIamPolicy": func() response { return g.call(federated, testGSA, "getIamPolicy", nil) },
	}
	for verb, body := range verbs() {
		calls["iamcredentials."+verb] = func() response { return g.call(federated, testGSA, verb, body) }
	}
	g.mu.Lock()
	clear(g.counters)
	g.mu.Unlock()
	return calls
}

func TestFault_FailsAndCountsEveryMethod(t *testing.T) {
	g := newFixture(t, Options{})
	calls := everyMethod(t, g)
	want := map[string]int{}
	for _, method := range Methods() {
		want[method] = 0
	}
	if len(calls) != len(want) {
		t.Fatalf("the test calls %d methods of %d", len(calls), len(want))
	}
	for method, call := range calls {
		t.Run(method, func(t *testing.T) {
			for _, status := range []int{429, 500, 503} {
				g.SetFault(method, Fault{Status: status, RetryAfter: 1500 * time.Millisecond, Times: 2})
				for range 2 {
					if got := call(); got.status != status || got.header.Get("Retry-After") != "2" {
						t.Errorf("%d, Retry-After %q: %s; want %d", got.status, got.header.Get("Retry-After"), got.body, status)
					}
				}
				if got := call(); got.status != http.StatusOK {
					t.Errorf("after the fault: %d %s", got.status, got.body)
				}
				want[method] += 3
			}
			g.SetFault(method, Fault{Status: 500})
			for range 3 {
				if got := call(); got.status != 500 {
					t.Errorf("a fault without Times ended: status %d", got.status)
				}
			}
			g.ClearFaults()
			if got := call(); got.status != http.StatusOK {
				t.Errorf("after ClearFaults: %d %s", got.status, got.body)
			}
			want[method] += 4
			if diff := cmp.Diff(want, g.Counters()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFault_HasShapeOfAPI(t *testing.T) {
	g := newFixture(t, Options{})
	calls := everyMethod(t, g)
	fail := func(method string, status int) response {
		g.SetFault(method, Fault{Status: status, Times: 1})
		return calls[method]()
	}
	checkAPIError(t, fail("iamcredentials.generateAccessToken", 503), 503, "UNAVAILABLE", "")
	checkAPIError(t, fail("iamcredentials.generateIdToken", 429), 429, "RESOURCE_EXHAUSTED", "Quota exceeded")
	checkAPIError(t, fail("iam.getIamPolicy", 500), 500, "INTERNAL", "")
	checkAPIError(t, fail("iam.getIamPolicy", 403), 403, "PERMISSION_DENIED", "")
	checkOAuthError(t, fail("sts.token", 429), 429, "quota_exceeded", "The request was throttled due to rate limit.")
	checkAPIError(t, fail("sts.token", 503), 503, "UNAVAILABLE", "")
	checkOAuthError(t, fail("sts.token", 400), 400, "invalid_request", "")
	checkOAuthError(t, fail("oauth2.token", 503), 503, "internal_failure", "")
	if got := fail("sts.token", 503); got.header.Get("Retry-After") != "" {
		t.Error("the answer has a Retry-After header that was not set")
	}
}

func TestFault_DelaysAnswerByLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFixture(t, Options{})
		g.SetFault("sts.token", Fault{Latency: 3 * time.Second, Times: 1})
		before := time.Now()
		if got := g.form("/v1/token", exchangeForm(podToken(startTime, nil))); got.status != http.StatusOK {
			t.Errorf("a delayed answer: %d %s", got.status, got.body)
		}
		if waited := time.Since(before); waited != 3*time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}

func TestFault_LatencyEndsWhenCallerHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFixture(t, Options{})
		g.SetFault("sts.token", Fault{Latency: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		before := time.Now()
		g.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "POST", "/v1/token", nil))
		if waited := time.Since(before); waited != time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}

func TestSetFault_PanicsOnUnknownMethod(t *testing.T) {
	defer func() {
		if r := recover(); !strings.Contains(fmt.Sprint(r), "sts.token") {
			t.Errorf("panic %v does not list the methods", r)
		}
	}()
	New(Options{}).SetFault("sts.exchange", Fault{})
}

func TestCounters_ReturnsCopy(t *testing.T) {
	s := New(Options{})
	maps.DeleteFunc(s.Counters(), func(string, int) bool { return true })
	if len(s.Counters()) != len(Methods()) {
		t.Error("the caller changed the counters")
	}
}
